/* Paho C, synchronous, as a device over MQTT 5. To connect again is the program's own work. */
#include <MQTTClient.h>
#include <unistd.h>

#include "contract.h"

static MQTTClient client;

static void add_number(MQTTProperties *properties, char *name, int number)
{
    char text[16];
    if (number < 0)
        return;
    snprintf(text, sizeof text, "%d", number);
    MQTTProperty property = {.identifier = MQTTPROPERTY_CODE_USER_PROPERTY};
    property.value.data = (MQTTLenString){(int)strlen(name), name};
    property.value.value = (MQTTLenString){(int)strlen(text), text};
    MQTTProperties_add(properties, &property);
}

void send_message(const struct message *message)
{
    char topic[128];
    MQTTClient_message out = MQTTClient_message_initializer;
    snprintf(topic, sizeof topic, "dev/%s/%s", setting("SN"), message->level);
    out.payload = (void *)message->body;
    out.payloadlen = message->length;
    out.qos = message->qos;
    if (*message->task) {
        MQTTProperty task = {.identifier = MQTTPROPERTY_CODE_CORRELATION_DATA};
        task.value.data = (MQTTLenString){(int)strlen(message->task), (char *)message->task};
        MQTTProperties_add(&out.properties, &task);
    }
    add_number(&out.properties, "status_code", message->status_code);
    add_number(&out.properties, "event_type_code", message->event_type_code);
    add_number(&out.properties, "dev_event_id", message->dev_event_id);
    MQTTResponse done = MQTTClient_publishMessage5(client, topic, &out, NULL);
    if (done.reasonCode != MQTTREASONCODE_SUCCESS)
        printf("publish: %d\n", done.reasonCode);
    MQTTResponse_free(done);
    MQTTProperties_free(&out.properties);
}

static int connect_and_subscribe(void)
{
    char ca[512], certificate[512], key[512], url[256], filter[128];
    snprintf(ca, sizeof ca, "%s/ca.pem", setting("DIR"));
    snprintf(certificate, sizeof certificate, "%s/cert.pem", setting("DIR"));
    snprintf(key, sizeof key, "%s/key.pem", setting("DIR"));
    snprintf(url, sizeof url, "ssl://%s:%s", setting("HOST"), setting("PORT"));
    snprintf(filter, sizeof filter, "srv/%s/+", setting("SN"));
    MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer5;
    MQTTClient_SSLOptions tls = MQTTClient_SSLOptions_initializer;
    tls.trustStore = ca, tls.keyStore = certificate, tls.privateKey = key, tls.verify = 1;
    options.ssl = &tls;
    options.cleanstart = 1;
    MQTTResponse done = MQTTClient_connect5(client, &options, NULL, NULL);
    int code = done.reasonCode;
    MQTTResponse_free(done);
    if (code != MQTTREASONCODE_SUCCESS)
        return code;
    done = MQTTClient_subscribe5(client, filter, 1, NULL, NULL);
    code = done.reasonCode;
    MQTTResponse_free(done);
    return code;
}

static void take(char *topic, MQTTClient_message *message)
{
    char task[40] = "";
    int method = 0;
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
    MQTTClient_freeMessage(&message);
    MQTTClient_free(topic);
}

int main(void)
{
    char url[256];
    MQTTClient_createOptions options = MQTTClient_createOptions_initializer;
    MQTTClient_init_options global = MQTTClient_init_options_initializer;
    global.do_openssl_init = 1;
    MQTTClient_global_init(&global);
    options.MQTTVersion = MQTTVERSION_5;
    snprintf(url, sizeof url, "ssl://%s:%s", setting("HOST"), setting("PORT"));
    MQTTClient_createWithOptions(&client, url, setting("SN"), MQTTCLIENT_PERSISTENCE_NONE, NULL, &options);
    for (;;) {
        char *topic = NULL;
        MQTTClient_message *message = NULL;
        int length;
        if (!MQTTClient_isConnected(client)) {
            int code = connect_and_subscribe();
            printf("connected: %d\n", code);
            fflush(stdout);
            if (code > MQTTREASONCODE_GRANTED_QOS_2 || code < 0)
                sleep(1);
        } else if (MQTTClient_receive(client, &topic, &length, &message, 1000) >= 0 && message) {
            take(topic, message);
        }
    }
}
