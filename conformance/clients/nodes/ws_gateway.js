// A gateway of a node broker with ws: URL, token, and the uid and values of its one node are arguments.
const WebSocket = require("ws");

const [url, token, uid, text] = process.argv.slice(2);
const values = JSON.parse(text);
const socket = new WebSocket(url, ["token", token]);
const send = (message) => socket.send(JSON.stringify(message));

function tell(dst) {
  send({ type: "new", uid, dst });
  for (const [endpoint, data] of Object.entries(values)) send({ type: "update", uid, endpoint, data, dst });
}

socket.on("open", () => tell("all"));
socket.on("error", (error) => console.log(error.message));
socket.on("close", (code) => {
  console.log(`closed ${code}`);
  process.exit(0);
});
socket.on("message", (data) => {
  console.log(data.toString());
  const heard = JSON.parse(data.toString());
  if (heard.type === "new") return tell(heard.src);
  if (heard.type !== "update" || heard.data.uid !== uid) return;
  values[heard.data.endpoint] = heard.data.payload;
  send({ type: "update", uid, endpoint: heard.data.endpoint, data: heard.data.payload, dst: "all" });
});
