// The server library `pusher` as an application uses it. Reads commands as lines of JSON, and answers each with a line.
'use strict';
const readline = require('readline');
const Pusher = require('pusher');

const { id, key, secret, host, port } = JSON.parse(process.argv[2]);
const pusher = new Pusher({ appId: id, key, secret, host, port: String(port), useTLS: false });

const commands = {
  trigger: ({ channels, event, data, more }) => pusher.trigger(channels, event, data, more || {}),
  batch: ({ events }) => pusher.triggerBatch(events),
  get: ({ path, params }) => pusher.get({ path, params }),
  authorise: async ({ socket, channel, data }) => pusher.authorizeChannel(socket, channel, data),
  webhook: async ({ headers, body }) => {
    const webhook = pusher.webhook({ headers, rawBody: body });
    return { valid: webhook.isValid(), events: webhook.isValid() ? webhook.getEvents() : [] };
  },
};
readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const command = JSON.parse(line);
  let answer;
  try {
    const done = await commands[command.do](command);
    answer = typeof done.text === 'function' ? { status: done.status, body: await done.text() } : { done };
  } catch (error) {
    answer = { status: error.status || null, body: error.body || String(error) };
  }
  console.log(JSON.stringify(answer));
}).on('close', () => process.exit(0));
