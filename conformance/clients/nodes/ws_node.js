// A node over WebSocket with ws: URL and its values as JSON are arguments. It compares what it is asked letter by letter.
const WebSocket = require("ws");

const [url, text] = process.argv.slice(2);
const values = JSON.parse(text);
const socket = new WebSocket(url);
const say = (data) => socket.send(JSON.stringify({ type: "update", data }));

socket.on("open", () => console.log("open"));
socket.on("close", (code, reason) => {
  console.log(`closed ${code} ${reason}`);
  process.exit(0);
});
socket.on("message", (data) => {
  const heard = data.toString();
  console.log(heard);
  if (heard === '{"request": "discover"}') return say(values);
  const { endpoint, payload } = JSON.parse(heard);
  values[endpoint] = payload;
  say({ [endpoint]: payload });
});
