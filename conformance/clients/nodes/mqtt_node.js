// A node over plain MQTT with MQTT.js: URL, level of the protocol, id and values as JSON are arguments.
const mqtt = require("mqtt");

const [url, level, id, text] = process.argv.slice(2);
const values = JSON.parse(text);
const client = mqtt.connect(url, { protocolVersion: Number(level), clean: true, clientId: "", keepalive: 9 });
const publish = (topic, body) => client.publish(topic, JSON.stringify(body), { qos: 1 });
const say = (resource) => publish(`node/${id}/${resource}`, { value: values[resource] });

client.on("error", (error) => console.log(error.message));
client.on("connect", () => {
  const topics = ["gateway/check", `gateway/${id}/discover`, `gateway/${id}/+/set`];
  client.subscribe(topics, { qos: 1 }, () => publish("node/check", { id }));
});
client.on("message", (topic, body) => {
  console.log(`${topic} ${body}`);
  const [, , resource, what] = topic.split("/");
  if (topic === "gateway/check") publish("node/check", { id });
  else if (what === "set") {
    values[resource] = body.toString();
    say(resource);
  } else if (body.toString() === "resources") publish(`node/${id}/resources`, Object.keys(values));
  else Object.keys(values).forEach(say);
});
