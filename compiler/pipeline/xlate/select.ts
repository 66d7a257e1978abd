// multipath, bundle and bundle_load: choosing a link or a port by a hash of the packet (OVS lib/multipath.h, lib/bundle.h).

import { PORT, type ActionOf } from "../../openflow/types.js";
import { hashInt } from "../ovs-hash.js";
import type { Switch } from "../switch.js";
import type { Context } from "./context.js";
import { HASHES } from "./hash-fields.js";
import { loadResult } from "./set-field.js";

/** The larger of equal hashes wins by being first. */
const best = (n: number, weight: (i: number) => number): number => {
  let found = 0;
  let highest = -1;
  for (let i = 0; i < n; i++) {
    const now = weight(i);
    if (now > highest) [found, highest] = [i, now];
  }
  return found;
};

const roundUpToPowerOf2 = (n: number): number => (n <= 1 ? n : 2 ** (32 - Math.clz32(n - 1)));

const iterated = (hash: number, links: number, arg: number): number => {
  const modulo = arg < links || Math.floor(arg / 2) > links ? roundUpToPowerOf2(links) : arg;
  for (let i = 0; ; i++) {
    const link = (hashInt(hash, i) % modulo) & 0xffff;
    if (link < links) return link;
  }
};

/** Links up to which `hrw` is what it is called; beyond, OVS iterates. */
const MAX_HRW_LINKS = 64;

const ALGORITHMS: Readonly<
  Record<ActionOf<"multipath">["algorithm"], (hash: number, links: number, arg: number) => number>
> = {
  modulo_n: (hash, links) => hash % links,
  hash_threshold: (hash, links) => (links === 1 ? 0 : Math.floor(hash / (Math.floor(0xffffffff / links) + 1))),
  hrw: (hash, links) =>
    links <= MAX_HRW_LINKS ? best(links, (link) => hashInt(hash, link)) : iterated(hash, links, 0),
  iter_hash: iterated,
};

export const multipath = (ctx: Context, action: ActionOf<"multipath">): void => {
  const { fields, basis, algorithm, maxLink, arg, dst } = action;
  HASHES[fields].mark(ctx);
  const link = ALGORITHMS[algorithm](HASHES[fields].of(ctx.flow, basis), maxLink + 1, arg) & 0xffff;
  loadResult(ctx, dst, link);
};

/** Whether a packet sent to `number` can get anywhere. */
const isEnabled = (sw: Switch, number: number): boolean => {
  if (number === PORT.CONTROLLER) return false;
  if (number !== PORT.LOCAL && number >= 0xffffff00) return true;
  const port = sw.port(number);
  return port !== undefined && port.up && !port.config.portDown;
};

const choose = (ctx: Context, { algorithm, members, fields, basis }: ActionOf<"bundle">): number => {
  const enabled = members.map((member) => isEnabled(ctx.sw, member));
  if (!enabled.includes(true)) return PORT.NONE;
  if (algorithm === "active_backup") return members[enabled.indexOf(true)]!;
  if (members.length > 1) HASHES[fields].mark(ctx);
  const hash = HASHES[fields].of(ctx.flow, basis);
  return members[best(members.length, (i) => (enabled[i] ? hashInt(i, hash) : -1))]!;
};

/** @param send - the `output` action */
export const bundle = (ctx: Context, action: ActionOf<"bundle">, send: (port: number) => void): void => {
  const port = choose(ctx, action);
  if (action.dst === undefined) send(port);
  else loadResult(ctx, action.dst, port & 0xffff);
};
