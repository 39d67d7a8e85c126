// A web client of a node broker with ws: it asks for all nodes, prints what it hears, and sends each line of standard
// input as it is.
const readline = require("node:readline");
const WebSocket = require("ws");

const socket = new WebSocket(process.argv[2]);

socket.on("open", () => {
  socket.send(JSON.stringify({ type: "new" }));
  readline.createInterface({ input: process.stdin }).on("line", (line) => socket.send(line));
});
socket.on("message", (data) => console.log(data.toString()));
socket.on("close", (code) => {
  console.log(`closed ${code}`);
  process.exit(0);
});
