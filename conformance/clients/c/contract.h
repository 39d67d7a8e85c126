/* What a device of the client suite does over MQTT 5, whatever its library. ../python/contract.py explains the methods. */
#ifndef CONTRACT_H
#define CONTRACT_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOTHING "00000000-0000-0000-0000-000000000000"
enum { ANSWER = 51, EVENT = 52, POLL = 53, POLLED = 54, EVENT_QOS_2 = 55 };

/* A message to send; a number that is not there is -1, a task that is not there is empty. */
struct message {
    const char *level;
    int qos, status_code, event_type_code, dev_event_id;
    char task[40];
    const void *body;
    int length;
};

/* Sends one message; each library has its own. */
void send_message(const struct message *message);

static int events = 0;

static const char *setting(const char *name)
{
    const char *value = getenv(name);
    if (!value) {
        fprintf(stderr, "%s is missing in the environment\n", name);
        exit(2);
    }
    return value;
}

static void send_step(const char *level, const char *task, int status_code, const void *body, int length)
{
    struct message message = {level, 1, status_code, -1, -1, "", body, length};
    snprintf(message.task, sizeof message.task, "%s", task);
    send_message(&message);
}

/* Does what a message that has come asks for. */
static void answer(const char *topic, const void *body, int length, const char *task, int method)
{
    const char *level = strrchr(topic, '/') + 1;
    printf("%s %s %d %.*s\n", level, task, method, length, (const char *)body);
    fflush(stdout);
    if (!strcmp(level, "tsk") && method != POLLED)
        send_step("req", task, -1, NULL, 0);
    if (strcmp(level, "rsp") || !strcmp(task, NOTHING))
        return;
    if (method == EVENT || method == EVENT_QOS_2) {
        const char *event = "{\"300\":[{\"301\":5}]}";
        struct message message = {"evt", method == EVENT_QOS_2 ? 2 : 1, -1, 13, ++events, "", event, (int)strlen(event)};
        send_message(&message);
    }
    send_step("res", task, 200, body, length);
    if (method == POLL || method == POLLED)
        send_step("req", "", -1, NULL, 0);
}
#endif
