/* libmosquitto as a device, over MQTT 5. Over TLS mosquitto_loop_forever returns when the connection ends, and the
 * program calls mosquitto_reconnect. */
#include <mosquitto.h>
#include <mqtt_protocol.h>
#include <unistd.h>

#include "contract.h"

static struct mosquitto *client;

static void add_number(mosquitto_property **properties, const char *name, int number)
{
    char text[16];
    if (number < 0)
        return;
    snprintf(text, sizeof text, "%d", number);
    mosquitto_property_add_string_pair(properties, MQTT_PROP_USER_PROPERTY, name, text);
}

void send_message(const struct message *message)
{
    char topic[128];
    mosquitto_property *properties = NULL;
    snprintf(topic, sizeof topic, "dev/%s/%s", setting("SN"), message->level);
    if (*message->task)
        mosquitto_property_add_binary(&properties, MQTT_PROP_CORRELATION_DATA, message->task, strlen(message->task));
    add_number(&properties, "status_code", message->status_code);
    add_number(&properties, "event_type_code", message->event_type_code);
    add_number(&properties, "dev_event_id", message->dev_event_id);
    mosquitto_publish_v5(client, NULL, topic, message->length, message->body, message->qos, false, properties);
    mosquitto_property_free_all(&properties);
}

static void on_connect(struct mosquitto *it, void *user, int reason, int flags, const mosquitto_property *properties)
{
    char filter[128];
    (void)user, (void)flags, (void)properties;
    snprintf(filter, sizeof filter, "srv/%s/+", setting("SN"));
    if (reason == 0)
        mosquitto_subscribe_v5(it, NULL, filter, 1, 0, NULL);
}

static void on_message(struct mosquitto *it, void *user, const struct mosquitto_message *message, const mosquitto_property *had)
{
    char task[40] = "", *name, *value;
    void *data = NULL;
    uint16_t length = 0;
    int method = 0, is_later = 0;
    (void)it, (void)user;
    if (mosquitto_property_read_binary(had, MQTT_PROP_CORRELATION_DATA, &data, &length, false))
        snprintf(task, sizeof task, "%.*s", length, (char *)data);
    free(data);
    while ((had = mosquitto_property_read_string_pair(had, MQTT_PROP_USER_PROPERTY, &name, &value, is_later++))) {
        if (!strcmp(name, "method_code"))
            method = atoi(value);
        free(name), free(value);
    }
    answer(message->topic, message->payload, message->payloadlen, task, method);
}

int main(void)
{
    char ca[512], certificate[512], key[512];
    snprintf(ca, sizeof ca, "%s/ca.pem", setting("DIR"));
    snprintf(certificate, sizeof certificate, "%s/cert.pem", setting("DIR"));
    snprintf(key, sizeof key, "%s/key.pem", setting("DIR"));
    mosquitto_lib_init();
    client = mosquitto_new(setting("SN"), true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_tls_set(client, ca, NULL, certificate, key, NULL);
    mosquitto_connect_v5_callback_set(client, on_connect);
    mosquitto_message_v5_callback_set(client, on_message);
    int code = mosquitto_connect(client, setting("HOST"), atoi(setting("PORT")), 60);
    for (;;) {
        if (code == MOSQ_ERR_SUCCESS)
            code = mosquitto_loop_forever(client, -1, 1);
        printf("again after: %s\n", mosquitto_strerror(code));
        sleep(1);
        code = mosquitto_reconnect(client);
    }
}
