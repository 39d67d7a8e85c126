// @sap/xb-msg-mqtt-v311 as a device, over MQTT 3.1.1. To connect again is the program's own work.
'use strict';
const { Client } = require('@sap/xb-msg-mqtt-v311');
const contract = require('./contract');

const client = new Client({
  tls: { host: contract.HOST, port: contract.PORT, ...contract.tls },
  mqtt: { clientID: contract.SN, cleanSession: true, keepAlive: 60 },
});

function onMessage(topic, payload, qos, duplicate) {
  // A payload may come as a list of chunks.
  const body = payload.chunks ? Buffer.concat(payload.chunks) : payload;
  for (const it of contract.answers311(topic, body)) {
    client.publish(it.topic, Buffer.from(it.body), it.qos);
  }
}

client
  .on('connected', () => client.subscribe(contract.FILTER, 1, onMessage))
  .on('assert', (error) => console.log('assert', error.message))
  .on('error', (error) => console.log('error', error.message))
  .on('disconnected', () => {
    console.log('disconnected');
    setTimeout(() => client.connect(), 1000);
  });
client.connect();
