// mqtts as a device, over MQTT 3.1.1. The library connects again by itself; the program subscribes on each connection.
'use strict';
const { MqttClient, TlsTransport } = require('mqtts');
const contract = require('./contract');

const client = new MqttClient({
  transport: new TlsTransport({ host: contract.HOST, port: contract.PORT, additionalOptions: contract.tls }),
  autoReconnect: true,
});
client.on('error', (error) => console.log('error', error.message));
client.on('warning', (error) => console.log('warning', error.message));
client.on('disconnect', (event) => console.log('disconnect', event));
client.on('connect', () => client.subscribe({ topic: contract.FILTER, qosLevel: 1 }));
client.on('message', async (message) => {
  for (const it of contract.answers311(message.topic, message.payload)) {
    await client.publish({ topic: it.topic, payload: it.body, qosLevel: it.qos });
  }
});
client.connect({ clientId: contract.SN, clean: true, keepAlive: 60 });
