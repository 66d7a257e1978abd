// The ways between two hosts that are compared, a row each.

import { Scope } from "ebpf-assembler";
import { parseFlows } from "#compiler";
import { Bridge, parsePortSpec, parseTunnelSpec, silentLog, type BridgeOptions } from "#runtime";
import { Link, loadObject, packMac, Rtnl } from "libbpf-ts";
import { compileC } from "../clang.js";
import type { Role } from "../row.js";
import { HOSTS, type WireLab } from "./lab.js";
import { startOvs } from "./ovs.js";

/** Hooks that paths run at: rows are made per hook, so that like is held against like. Through VXLAN it is TC for all. */
export type WireHook = "tc" | "xdp" | "vxlan";

export interface Path {
  readonly name: string;
  /** Per hook; absent: not measured there. */
  readonly roles: Readonly<Partial<Record<WireHook, Role>>>;
  /** No switch: host to host. */
  readonly isDirect?: boolean;
  /** Takes a processor for itself while it is there: set up for its own rounds only. */
  readonly spins?: boolean;
  /** Offload settings of the hosts' interfaces, as `ethtool -K` takes them; ours sets what it needs itself. */
  readonly offloads?: readonly string[];
  readonly open: (lab: WireLab) => Disposable | Promise<Disposable>;
}

/**
 * A megaflow for each 5-tuple, whoever caches them: registers are given every field of it, so every field is looked at.
 */
const FLOWS: readonly string[] = ["tcp", "udp"].flatMap((proto) =>
  [1, 2].map((port) => {
    const ports = proto.toUpperCase();
    const moves = [
      "move:NXM_OF_IP_SRC[]->NXM_NX_REG0[]",
      "move:NXM_OF_IP_DST[]->NXM_NX_REG1[]",
      `move:NXM_OF_${ports}_SRC[]->NXM_NX_REG2[0..15]`,
      `move:NXM_OF_${ports}_DST[]->NXM_NX_REG3[0..15]`,
    ];
    return `priority=10,${proto},in_port=${port},actions=${moves.join(",")},output:${3 - port}`;
  }),
);
const OTHERS: readonly string[] = [1, 2].map((port) => `priority=1,in_port=${port},actions=output:${3 - port}`);
const ALL_FLOWS = [...FLOWS, ...OTHERS];

/** A whole bridge between both ports, with these flows. */
export const openBridge = (
  lab: WireLab,
  hook: "tc" | "peer" | "native",
  flows: readonly string[],
  options: Partial<BridgeOptions> = {},
): Bridge =>
  lab.switchNs.run(() =>
    Bridge.open(lab.sys, {
      name: "bench",
      failMode: "secure",
      ports: [1, 2].map((n) => parsePortSpec(`${n}=p${n}:${hook}`)),
      flows: parseFlows(flows.join("\n"), { file: "bench" }),
      log: silentLog,
      maxIdleMs: 600_000,
      ...options,
    }),
  );

const ours =
  (hook: "tc" | "peer" | "native") =>
  (lab: WireLab): Disposable =>
    openBridge(lab, hook, ALL_FLOWS);

const u32 = (n: number): Uint8Array => new Uint8Array(Uint32Array.of(n).buffer);
const MAX_FLOWS = 10_000;

/** bench/c/wire.bpf.c between both ports. */
const handWritten =
  (program: string, hook: WireHook) =>
  (lab: WireLab): Disposable => {
    using scope = new Scope();
    const object = compileC("wire");
    const loaded = scope.use(
      loadObject(lab.sys, {
        ...object,
        programs: object.programs.filter(({ name }) => name === program),
        maps: object.maps.map((map) => (map.name === "tuples" ? { ...map, maxEntries: MAX_FLOWS } : map)),
      }),
    );
    lab.switchNs.run(() => {
      using rtnl = Rtnl.open(lab.sys);
      const [first, second] = [rtnl.get("p1").index, rtnl.get("p2").index];
      for (const [from, to] of [
        [first, second],
        [second, first],
      ] as const) {
        loaded.map("other_port").update(u32(from), u32(to));
        loaded.map("ports").update(u32(from), u32(from));
        const attach = loaded.program(program);
        scope.use(
          hook === "tc" ? Link.tcx(lab.sys, attach, from, "ingress") : Link.xdp(lab.sys, attach, from, "native"),
        );
      }
    });
    return scope.move();
  };

const linuxBridge = (lab: WireLab): Disposable =>
  lab.switchNs.run(() => {
    using rtnl = Rtnl.open(lab.sys);
    rtnl.create("bridge", { name: "br0", up: true });
    const { index } = rtnl.get("br0");
    for (const name of ["p1", "p2"]) rtnl.change(rtnl.get(name).index, { master: index });
    // It goes with the namespace.
    return { [Symbol.dispose]: () => undefined };
  });

const NOTHING: Disposable = { [Symbol.dispose]: () => undefined };

/** Ends of the tunnel to the second host, who gets its packets by a kernel device. */
const [NEAR, FAR] = ["192.0.2.1", "192.0.2.2"] as const;
const VNI = 7;

/** Puts the second host behind a VXLAN device at its end of the second cable. */
const putBehindVxlan = async (lab: WireLab): Promise<void> => {
  const { mac, address } = HOSTS[1];
  const far = [
    "ip addr flush dev eth0",
    `ip link set eth0 address 02:00:00:00:01:02`,
    `ip addr add ${FAR}/24 dev eth0`,
    `ip link add vx0 address ${mac} type vxlan id ${VNI} remote ${NEAR} dstport 4789`,
    `ip addr add ${address}/24 dev vx0`,
    "ip link set vx0 up",
    `ip neigh replace ${HOSTS[0].address} lladdr ${HOSTS[0].mac} dev vx0`,
  ];
  await lab.atHost(1, ["sh", "-ec", far.join("\n")]);
  await lab.atHost(0, ["ip", "link", "set", "eth0", "mtu", "1450"]);
  lab.switchNs.run(() => {
    using rtnl = Rtnl.open(lab.sys);
    const { index } = rtnl.get("p2");
    rtnl.addAddress(index, `${NEAR}/24`);
    rtnl.addNeighbour(index, FAR, packMac("02:00:00:00:01:02"));
  });
};

const oursVxlan = async (lab: WireLab): Promise<Disposable> => {
  await putBehindVxlan(lab);
  return openBridge(lab, "tc", ALL_FLOWS, {
    ports: [parsePortSpec("1=p1:tc")],
    tunnels: [parseTunnelSpec(`2=vx0:type=vxlan,remote_ip=${FAR},key=${VNI}`)],
    uplinks: [parsePortSpec("p2:tc")],
  });
};

const linuxVxlan = async (lab: WireLab): Promise<Disposable> => {
  await putBehindVxlan(lab);
  const near = [
    "ip link add br0 type bridge",
    `ip link add vx0 type vxlan id ${VNI} remote ${FAR} dstport 4789`,
    ...["p1", "vx0"].flatMap((name) => [`ip link set ${name} master br0`, `ip link set ${name} up`]),
    "ip link set br0 up",
  ];
  await lab.atSwitch(["sh", "-ec", near.join("\n")]);
  return NOTHING;
};

/** Packets that do not go through the kernel's stack again must leave the sender complete. */
const WHOLE_CHECKSUMS: readonly string[] = ["tx", "off"];

export const PATHS: readonly Path[] = [
  { name: "direct cable", roles: { tc: "other", xdp: "other" }, isDirect: true, open: () => NOTHING },
  { name: "ours", roles: { tc: "ours" }, open: ours("tc") },
  { name: "ours, to the peer", roles: { tc: "other" }, open: ours("peer") },
  { name: "C, hash and redirect", roles: { tc: "rival" }, open: handWritten("wire_tc", "tc") },
  { name: "C, hash and redirect_peer", roles: { tc: "other" }, open: handWritten("peer_tc", "tc") },
  { name: "ours", roles: { xdp: "ours" }, open: ours("native") },
  {
    name: "C, hash and redirect",
    roles: { xdp: "rival" },
    // Without GRO a veth takes no redirected frames in.
    offloads: [...WHOLE_CHECKSUMS, "gro", "on"],
    open: handWritten("wire_xdp", "xdp"),
  },
  { name: "ours", roles: { vxlan: "ours" }, open: oursVxlan },
  { name: "Linux bridge and VXLAN device", roles: { vxlan: "rival" }, open: linuxVxlan },
  { name: "Linux bridge", roles: { tc: "other", xdp: "other" }, open: linuxBridge },
  {
    name: "OVS userspace",
    roles: { tc: "other", xdp: "other" },
    offloads: WHOLE_CHECKSUMS,
    open: (lab) => startOvs(lab, { flows: ALL_FLOWS }),
  },
  {
    name: "OVS userspace, TSO",
    roles: { tc: "other" },
    open: (lab) => startOvs(lab, { flows: ALL_FLOWS, userspaceTso: true }),
  },
  {
    name: "OVS AF_XDP",
    roles: { xdp: "other" },
    offloads: WHOLE_CHECKSUMS,
    spins: true,
    open: (lab) => startOvs(lab, { flows: ALL_FLOWS, type: "afxdp" }),
  },
];
