// An attack on tuple space search: an access list of three rules on three fields, and packets that each differ from the
// rules in another bit of every field, so that each needs another mask. Victims are cached before; what counts is the
// rate that they keep.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Scope } from "ebpf-assembler";
import { AT, udpPacket } from "../datapath/packet.js";
import type { Row } from "../row.js";
import { blastPath } from "../wire/blast.js";
import { WireLab } from "../wire/lab.js";
import { openBridge } from "../wire/paths.js";

export interface AttackOptions {
  readonly rounds: number;
  /** Of the attack; victims send as fast as they can. */
  readonly perSecond: number;
}

const ALLOWED = { tpDst: 53, nwSrc: 0x0a09_0909, tpSrc: 12_345 } as const;

/** Victims are let in by the first rule. */
const FLOWS: readonly string[] = [
  `priority=100,udp,tp_dst=${ALLOWED.tpDst},actions=output:2`,
  "priority=90,udp,nw_src=10.9.9.9,actions=output:2",
  `priority=80,udp,tp_src=${ALLOWED.tpSrc},actions=output:2`,
  "priority=0,actions=drop",
];

const ROUND_MS = 200;
const SETTLE_MS = 1500;

/** One packet per mask that can come of the rules: each port and the address differ from the allowed one first at some bit. */
export const attackPackets = (): Uint8Array[] => {
  const packets: Uint8Array[] = [];
  for (let dst = 0; dst < 16; dst++)
    for (let address = 0; address < 32; address++)
      for (let src = 0; src < 16; src++) {
        const packet = udpPacket({ vary: [] }, 0);
        const view = new DataView(packet.buffer);
        view.setUint16(AT.tpDst, ALLOWED.tpDst ^ (1 << dst));
        view.setUint32(AT.nwSrc, (ALLOWED.nwSrc ^ (1 << address)) >>> 0);
        view.setUint16(AT.tpSrc, ALLOWED.tpSrc ^ (1 << src));
        packets.push(packet);
      }
  return packets;
};

export async function* runAttack({ rounds, perSecond }: AttackOptions): AsyncGenerator<Row> {
  using scope = new Scope();
  const directory = mkdtempSync(join(tmpdir(), `ofxdp-bench-${process.pid}-attack-`));
  scope.defer(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, "packets");
  writeFileSync(file, Buffer.concat(attackPackets()));
  const lab = scope.use(new WireLab(blastPath()));
  const bridge = scope.use(openBridge(lab, "tc", FLOWS));
  const attacker = scope.use(lab.sender(file));
  const victims = async (): Promise<number> => (await lab.packets(ROUND_MS)) / 1000;
  await victims();
  await sleep(SETTLE_MS);
  const [before, under]: [number[], number[]] = [[], []];
  for (let i = 0; i < rounds; i++) before.push(await victims());
  // The attack lasts through all rounds, and one before they count.
  const attack = lab.send((rounds + 2) * ROUND_MS + SETTLE_MS, perSecond, attacker);
  await sleep(SETTLE_MS);
  let masks = 0;
  for (let i = 0; i < rounds; i++) {
    under.push(await victims());
    masks = Math.max(masks, bridge.stats.cache.masks);
  }
  const { sent } = await attack;
  yield {
    group: "daemon",
    name: "attack",
    title: "Cached victims, one packet per possible mask",
    at: `${perSecond.toLocaleString("en")} packets/s of attack`,
    unit: "k packets/s",
    better: "more",
    series: [
      { name: "ours", role: "ours", samples: under, facts: { masks, attackPackets: sent } },
      { name: "ours, before", role: "rival", samples: before },
    ],
  };
}
