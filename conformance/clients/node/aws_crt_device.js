// aws-crt (s2n-tls) as a device, over MQTT 5. The library connects again by itself; it has no QoS 2.
'use strict';
const { io, mqtt5 } = require('aws-crt');
const contract = require('./contract');

const tls = io.TlsContextOptions.create_client_with_mtls_from_path(`${process.env.DIR}/cert.pem`, `${process.env.DIR}/key.pem`);
tls.override_default_trust_store_from_path(undefined, `${process.env.DIR}/ca.pem`);
const client = new mqtt5.Mqtt5Client({
  hostName: contract.HOST, port: contract.PORT, tlsCtx: new io.ClientTlsContext(tls),
  connectProperties: { clientId: contract.SN, keepAliveIntervalSeconds: 60 },
});
client.on('error', (error) => console.log('error', error.message));
client.on('connectionSuccess', () => client.subscribe({ subscriptions: [{ topicFilter: contract.FILTER, qos: 1 }] }));
client.on('messageReceived', ({ message }) => {
  const user = Object.fromEntries((message.userProperties || []).map(({ name, value }) => [name, value]));
  const body = Buffer.from(message.payload || '');
  for (const it of contract.answers5(message.topicName, body, message.correlationData, user)) {
    const packet = { topicName: it.topic, payload: it.body, qos: it.qos };
    // What is not sent must be left out: a member that is undefined ends in "storage init failure".
    if (it.task) packet.correlationData = Buffer.from(it.task);
    const pairs = Object.entries(it.user).map(([name, value]) => ({ name, value }));
    if (pairs.length) packet.userProperties = pairs;
    client.publish(packet).catch((error) => console.log('publish', error.message));
  }
});
client.start();
