// What a device of the client suite does, whatever its MQTT library. ../python/contract.py explains the methods.
'use strict';
const fs = require('fs');

const { SN, HOST, DIR, LEVEL = '5' } = process.env;
const PORT = Number(process.env.PORT);
const NOTHING = '00000000-0000-0000-0000-000000000000';
const ANSWER = 51, EVENT = 52, POLL = 53, POLLED = 54, EVENT_QOS_2 = 55;
const EVENT_TYPE = 13;
const tls = { ca: fs.readFileSync(`${DIR}/ca.pem`), cert: fs.readFileSync(`${DIR}/cert.pem`), key: fs.readFileSync(`${DIR}/key.pem`) };
let events = 0;

// What an MQTT 5 device sends when this message has come: {topic, body, qos, task, user}.
function answers5(topic, body, task, user) {
  const method = Number((user && user.method_code) || 0);
  return answers(topic, body.toString(), task ? Buffer.from(task).toString() : '', method, properties);
}

// The same over MQTT 3.1.1, where a JSON envelope has what the properties have.
function answers311(topic, body) {
  const had = JSON.parse(body.toString());
  return answers(topic, JSON.stringify(had.payload), had.correlationData, had.method_code || 0, envelope);
}

function answers(topic, body, task, method, make) {
  const level = topic.slice(topic.lastIndexOf('/') + 1);
  console.log(level, task, method, body);
  if (level === 'tsk') return method === POLLED ? [] : [make('req', 1, task, {}, '')];
  if (level !== 'rsp' || task === NOTHING) return [];
  const out = [];
  if (method === EVENT || method === EVENT_QOS_2) {
    events += 1;
    const fields = { event_type_code: EVENT_TYPE, dev_event_id: events };
    out.push(make('evt', method === EVENT_QOS_2 ? 2 : 1, '', fields, '{"300":[{"301":5}]}'));
  }
  out.push(make('res', 1, task, { status_code: 200 }, body));
  if (method === POLL || method === POLLED) out.push({ topic: `dev/${SN}/req`, body: '', qos: 1, task: '', user: {} });
  return out;
}

function properties(level, qos, task, fields, body) {
  const user = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, String(value)]));
  return { topic: `dev/${SN}/${level}`, body, qos, task, user };
}

function envelope(level, qos, task, fields, body) {
  const it = { ...fields };
  if (task) it.correlationData = task;
  if (body) it.payload = JSON.parse(body);
  return { topic: `dev/${SN}/${level}`, body: JSON.stringify(it), qos, task: '', user: {} };
}

module.exports = { SN, HOST, PORT, LEVEL, FILTER: `srv/${SN}/+`, tls, answers5, answers311 };
