// MQTT.js 5 as a device, over MQTT 5 and 3.1.1. The library connects and subscribes again by itself.
'use strict';
const mqtt = require('mqtt');
const contract = require('./contract');

const is5 = contract.LEVEL === '5';
const client = mqtt.connect({
  protocol: 'mqtts', host: contract.HOST, port: contract.PORT, clientId: contract.SN,
  protocolVersion: is5 ? 5 : 4, ...contract.tls,
});
client.on('error', (error) => console.log('error', error.message));
client.once('connect', () => client.subscribe(contract.FILTER, { qos: 1 }));
client.on('message', (topic, body, packet) => {
  const had = packet.properties || {};
  const out = is5 ? contract.answers5(topic, body, had.correlationData, had.userProperties) : contract.answers311(topic, body);
  for (const it of out) {
    // What is not sent must be left out: with an empty userProperties the packet is not sent, and the library says nothing.
    const properties = Object.keys(it.user).length ? { userProperties: it.user } : {};
    if (it.task) properties.correlationData = Buffer.from(it.task);
    client.publish(it.topic, it.body, is5 ? { qos: it.qos, properties } : { qos: it.qos });
  }
});
