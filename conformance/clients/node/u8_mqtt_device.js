// u8-mqtt as a device, over MQTT 3.1.1. The library connects again by itself; the program subscribes on each connection.
'use strict';
const contract = require('./contract');

async function main() {
  const { default: mqtt } = await import('u8-mqtt/esm/node/v4.mjs');
  const client = mqtt().with_tls(contract.PORT, contract.HOST, contract.tls).with_autoreconnect();
  client.on_topic(contract.FILTER.replace('+', ':level'), async (packet) => {
    for (const it of contract.answers311(packet.topic, packet.utf8())) {
      await client.pub({ topic: it.topic, payload: it.body, qos: it.qos });
    }
  });
  client.with({ on_ready() { client.subscribe([[contract.FILTER, 1]]); } });
  await client.connect({ client_id: contract.SN });
}

main();
