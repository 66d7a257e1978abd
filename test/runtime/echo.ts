// A byte-exact transfer over TCP, there and back at once: what is sent comes back the same, or is found not to.

import { spawn } from "node:child_process";
import { once } from "node:events";
import type { Lab } from "./lab.js";

const SERVE = `require("net").createServer((s) => s.pipe(s).on("close", () => process.exit(0)))
  .listen(5000, "::", () => console.log("listening"))`;

const send = (address: string, bytes: number): string => `
  const hash = (d) => require("crypto").createHash("sha256").update(d).digest("hex");
  const sent = require("crypto").randomBytes(${bytes}), got = [];
  const s = require("net").connect(5000, "${address}", () => s.end(sent));
  s.on("data", (d) => got.push(d));
  s.on("end", () => {
    const back = Buffer.concat(got);
    console.log(back.length + " bytes, " + (hash(back) === hash(sent) ? "the same" : "others"));
  })`;

const node = (script: string): string => `timeout 40 ${process.execPath} -e '${script.replace(/\s+/g, " ")}'`;

/**
 * Has `client` send random bytes to an echoing `server` at `address`.
 * @param client, server - a host of the lab, or the switch's own namespace
 * @returns `N bytes, the same`, if all is well; else what was said of it
 */
export const echo = async (
  lab: Lab,
  client: number | "switch",
  server: number | "switch",
  address: string,
  bytes: number,
): Promise<string> => {
  const serving = spawn("nsenter", [`--net=${lab.path(server)}`, "sh", "-c", node(SERVE)]);
  try {
    await once(serving.stdout, "data");
    const { stdout, stderr } = await lab.run(client, node(send(address, bytes)), 50_000);
    return stdout.trim() || stderr;
  } finally {
    serving.kill();
  }
};
