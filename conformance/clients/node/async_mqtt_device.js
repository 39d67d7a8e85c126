// async-mqtt (MQTT.js 4) as a device, over MQTT 5. The library connects and subscribes again by itself.
'use strict';
const mqtt = require('async-mqtt');
const contract = require('./contract');

const client = mqtt.connect({
  protocol: 'mqtts', host: contract.HOST, port: contract.PORT, clientId: contract.SN, protocolVersion: 5, ...contract.tls,
});
client.on('error', (error) => console.log('error', error.message));
client.once('connect', () => client.subscribe(contract.FILTER, { qos: 1 }));
client.on('message', async (topic, body, packet) => {
  const had = packet.properties || {};
  for (const it of contract.answers5(topic, body, had.correlationData, had.userProperties)) {
    // What is not sent must be left out: with an empty userProperties the packet is not sent, and the library says nothing.
    const properties = Object.keys(it.user).length ? { userProperties: it.user } : {};
    if (it.task) properties.correlationData = Buffer.from(it.task);
    await client.publish(it.topic, it.body, { qos: it.qos, properties });
  }
});
