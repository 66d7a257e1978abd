// Flow monitors whose peer does not read: it hears of what it missed once it reads again.

import assert from "node:assert/strict";
import { ANY_GROUP, applyFlowMod, formatMessage, MONITOR_FLAG, newFlow, parseFlowLines, PORT, Switch } from "#compiler";
import { OfConn, type Connection } from "#runtime";

const CHANGES = MONITOR_FLAG.add | MONITOR_FLAG.delete | MONITOR_FLAG.modify;

describe("runtime/ofproto: flow monitors", () => {
  for (const version of [1, 4, 5])
    it(`a peer of version ${version} that did not read hears of what is new since, and at once of what is gone`, () => {
      const said: string[] = [];
      let isCongested = false;
      const peer = {
        version,
        name: "peer",
        get isCongested() {
          return isCongested;
        },
        send: (bytes: Uint8Array) => void said.push(formatMessage(bytes)),
      };
      const conn = new OfConn(peer as unknown as Connection, "service");
      const match = { value: newFlow(), mask: newFlow() };
      conn.monitors.add({ id: 1, flags: CHANGES, table: 0xff, match, outPort: PORT.NONE, outGroup: ANY_GROUP });
      const sw = new Switch();
      sw.observe((event) => conn.monitors.report(event, undefined));
      const change = (command: "add" | "delete", text: string): void => {
        const [line] = parseFlowLines(`${text},actions=drop`);
        applyFlowMod(sw, { ...line!.value!, command }, 0);
        conn.monitors.flush();
      };
      const heard = (): string[] =>
        said.splice(0).flatMap((text) => text.match(/event=\S+|FLOW_MONITOR_(PAUSED|RESUMED)|cookie=\S+/g) ?? []);
      const isShort = version < 5;

      change("add", "cookie=1,in_port=1");
      assert.deepEqual(heard(), ["event=ADDED", "cookie=0x1"]);
      isCongested = true;
      change("add", "cookie=2,in_port=2");
      assert.deepEqual(heard(), ["event=ADDED", "cookie=0x2", isShort ? "FLOW_MONITOR_PAUSED" : "event=PAUSED"]);
      change("add", "cookie=3,in_port=3");
      change("add", "cookie=4,in_port=4");
      change("add", "cookie=5,in_port=4");
      assert.deepEqual(heard(), []);
      change("delete", "in_port=1");
      change("delete", "in_port=3");
      assert.deepEqual(heard(), ["event=DELETED", "cookie=0x1"], "not of one that came in the meantime");
      isCongested = false;
      conn.monitors.flush();
      assert.deepEqual(heard(), ["event=ADDED", "cookie=0x5", isShort ? "FLOW_MONITOR_RESUMED" : "event=RESUMED"]);
    });
});
