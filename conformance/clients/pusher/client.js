// pusher-js as a page or a Node program uses it. Reads commands as lines of JSON, and says as lines of JSON what it hears.
'use strict';
const readline = require('readline');
const Pusher = require('pusher-js');

const { key, host, port, tls, auth, token } = JSON.parse(process.argv[2]);
const say = (what) => console.log(JSON.stringify(what));
const pusher = new Pusher(key, {
  cluster: 'covey', wsHost: host, wsPort: port, wssPort: port, forceTLS: !!tls, enabledTransports: ['ws', 'wss'],
  channelAuthorization: auth && { endpoint: auth, transport: 'ajax', headers: { Authorization: `Bearer ${token}` } },
});
pusher.connection.bind('state_change', ({ current }) => say({ state: current, socket: pusher.connection.socket_id }));
pusher.connection.bind('error', (error) => say({ error: (error.data || (error.error && error.error.data) || {}).code || null }));

const commands = {
  subscribe({ channel }) {
    const subscribed = pusher.subscribe(channel);
    subscribed.bind_global((event, data) => {
      if (event === 'pusher:subscription_succeeded' && channel.startsWith('presence-')) {
        data = { count: data.count, me: data.me, members: data.members };
      }
      say({ channel, event, data });
    });
  },
  unsubscribe({ channel }) { pusher.unsubscribe(channel); },
  trigger({ channel, event, data }) { say({ triggered: pusher.channel(channel).trigger(event, data) }); },
  disconnect() { pusher.disconnect(); },
};
readline.createInterface({ input: process.stdin })
  .on('line', (line) => { const command = JSON.parse(line); commands[command.do](command); })
  .on('close', () => process.exit(0));
