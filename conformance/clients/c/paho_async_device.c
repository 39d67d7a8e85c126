/* Paho C, asynchronous, as a device over MQTT 5 whose messages lose their properties: MQTTAsync_sendMessage without
 * response options sends none. So the program names the task in the body. The library connects again by itself. */
#include <MQTTAsync.h>
#include <unistd.h>

#include "contract.h"

static MQTTAsync client;

void send_message(const struct message *message)
{
    char topic[128], body[2048] = "";
    MQTTAsync_message out = MQTTAsync_message_initializer;
    snprintf(topic, sizeof topic, "dev/%s/%s", setting("SN"), message->level);
    if (message->event_type_code >= 0)
        snprintf(body, sizeof body, "{\"200\":%d,\"101\":%d,\"300\":[{\"301\":5}]}", message->event_type_code, message->dev_event_id);
    else if (message->length)
        snprintf(body, sizeof body, "{\"corr_id\":\"%s\",\"result\":%.*s}", message->task, message->length, (char *)message->body);
    else if (*message->task)
        snprintf(body, sizeof body, "{\"corr_id\":\"%s\"}", message->task);
    out.payload = body;
    out.payloadlen = (int)strlen(body);
    out.qos = message->qos;
    int code = MQTTAsync_sendMessage(client, topic, &out, NULL);
    if (code != MQTTASYNC_SUCCESS)
        printf("publish: %d\n", code);
}

static int on_message(void *user, char *topic, int length, MQTTAsync_message *message)
{
    char task[40] = "";
    int method = 0;
    (void)user, (void)length;
    MQTTProperty *had = MQTTProperties_getProperty(&message->properties, MQTTPROPERTY_CODE_CORRELATION_DATA);
    if (had)
        snprintf(task, sizeof task, "%.*s", had->value.data.len, had->value.data.data);
    int count = MQTTProperties_propertyCount(&message->properties, MQTTPROPERTY_CODE_USER_PROPERTY);
    for (int at = 0; at < count; at++) {
        had = MQTTProperties_getPropertyAt(&message->properties, MQTTPROPERTY_CODE_USER_PROPERTY, at);
        if (had->value.data.len == 11 && !memcmp(had->value.data.data, "method_code", 11))
            method = atoi(had->value.value.data);
    }
    answer(topic, message->payload, message->payloadlen, task, method);
    MQTTAsync_freeMessage(&message);
    MQTTAsync_free(topic);
    return 1;
}

static void on_connected(void *user, char *cause)
{
    char filter[128];
    (void)user;
    printf("connected: %s\n", cause ? cause : "");
    fflush(stdout);
    snprintf(filter, sizeof filter, "srv/%s/+", setting("SN"));
    MQTTAsync_subscribe(client, filter, 1, NULL);
}

int main(void)
{
    char url[256], ca[512], certificate[512], key[512];
    MQTTAsync_createOptions creation = MQTTAsync_createOptions_initializer5;
    MQTTAsync_connectOptions options = MQTTAsync_connectOptions_initializer5;
    MQTTAsync_SSLOptions tls = MQTTAsync_SSLOptions_initializer;
    MQTTAsync_init_options global = MQTTAsync_init_options_initializer;
    snprintf(ca, sizeof ca, "%s/ca.pem", setting("DIR"));
    snprintf(certificate, sizeof certificate, "%s/cert.pem", setting("DIR"));
    snprintf(key, sizeof key, "%s/key.pem", setting("DIR"));
    snprintf(url, sizeof url, "ssl://%s:%s", setting("HOST"), setting("PORT"));
    global.do_openssl_init = 1;
    MQTTAsync_global_init(&global);
    MQTTAsync_createWithOptions(&client, url, setting("SN"), MQTTCLIENT_PERSISTENCE_NONE, NULL, &creation);
    MQTTAsync_setCallbacks(client, NULL, NULL, on_message, NULL);
    MQTTAsync_setConnected(client, NULL, on_connected);
    tls.trustStore = ca, tls.keyStore = certificate, tls.privateKey = key, tls.verify = 1;
    options.ssl = &tls;
    options.cleanstart = 1;
    options.automaticReconnect = 1;
    options.minRetryInterval = 1, options.maxRetryInterval = 10;
    int code = MQTTAsync_connect(client, &options);
    for (;;) {
        if (code != MQTTASYNC_SUCCESS)
            return printf("connect: %d\n", code), 1;
        sleep(60);
    }
}
