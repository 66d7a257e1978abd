// Stock ovs-ofctl drives our switch as it drives Open vSwitch: the same commands, in every version of OpenFlow, print the same.

import assert from "node:assert/strict";
import { Ovs } from "../../support/ovs.js";
import { ofctl, OfprotoLab, socketOf } from "./lab.js";

const VERSIONS = ["OpenFlow10", "OpenFlow11", "OpenFlow12", "OpenFlow13", "OpenFlow14", "OpenFlow15"] as const;

/** Many kinds of matches and actions; what a version cannot carry, ovs-ofctl itself refuses. */
const FLOWS: readonly string[] = [
  "priority=1,actions=NORMAL",
  "table=0,priority=10,in_port=1,actions=output:2,output:3",
  "table=0,priority=20,arp,arp_tpa=10.0.0.0/24,actions=FLOOD",
  "table=0,priority=30,ip,nw_src=10.0.0.1,nw_dst=10.1.0.0/16,actions=mod_dl_src:02:00:00:00:00:01,output:1",
  "table=0,priority=31,tcp,nw_dst=10.0.0.2,tp_dst=80,actions=drop",
  "table=0,priority=32,udp,tp_src=53,actions=CONTROLLER:128",
  "table=0,priority=33,icmp,icmp_type=8,actions=IN_PORT",
  "table=0,priority=34,dl_vlan=100,actions=strip_vlan,LOCAL",
  "table=0,priority=35,ipv6,ipv6_dst=fd00::/64,actions=ALL",
  "table=0,priority=36,dl_dst=01:00:00:00:00:00/01:00:00:00:00:00,actions=2",
  "table=1,priority=40,idle_timeout=600,hard_timeout=1200,cookie=0x1234,ip,actions=mod_nw_tos:32,resubmit(,2)",
  "table=1,priority=41,tcp,tcp_flags=+syn-ack,actions=load:0x5->NXM_NX_REG0[],resubmit(,2)",
  "table=1,priority=42,reg0=0x5,actions=move:NXM_NX_REG0[0..15]->NXM_NX_REG1[16..31],output:NXM_NX_REG0[]",
  "table=1,priority=43,send_flow_rem,ip,nw_ttl=64,actions=dec_ttl,2",
  "table=2,priority=50,ip,actions=set_field:10.9.9.9->ip_dst,goto_table:3",
  "table=2,priority=51,metadata=0x7/0xff,actions=write_metadata:0x1234/0xffff,goto_table:4",
  "table=2,priority=52,mpls,mpls_label=17,actions=pop_mpls:0x0800,2",
  "table=3,priority=60,ip,actions=write_actions(set_field:02:00:00:00:00:09->eth_dst,output:3),clear_actions",
  "table=3,priority=61,importance=9,udp6,actions=push_vlan:0x8100,set_field:4196->vlan_vid,1",
  "table=4,priority=70,ip,actions=learn(table=5,idle_timeout=30,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[]),1",
  "table=4,priority=71,ip,actions=multipath(symmetric_l4,1024,modulo_n,4,0,NXM_NX_REG0[0..7]),2",
  "table=4,priority=72,ip,actions=clone(mod_nw_dst:10.0.0.9,2),note:01.02.03,3",
  "table=4,priority=73,conj_id=7,ip,actions=3",
  "table=4,priority=74,ip,nw_src=10.0.0.7,actions=conjunction(7,1/2)",
  "table=4,priority=75,tun_id=0x5,actions=set_queue:1,1,pop_queue",
  "table=4,priority=76,ct_state=+trk,ip,actions=ct(commit,zone=1),2",
  "table=253,priority=65535,actions=drop",
];

const GROUPS: readonly string[] = [
  "group_id=1,type=all,bucket=output:1,bucket=output:2",
  "group_id=2,type=select,bucket=weight:3,output:1,bucket=output:2",
  "group_id=3,type=indirect,bucket=mod_dl_dst:02:00:00:00:00:03,output:3",
  "group_id=4,type=ff,bucket=watch_port:1,output:1,bucket=watch_port:2,output:2",
  "group_id=5,type=select,selection_method=hash,fields(ip_src,tcp_dst),bucket=output:1,bucket=output:3",
];

const METERS: readonly string[] = [
  "meter=1,kbps,band=type=drop,rate=1000",
  "meter=2,pktps,burst,stats,band=type=drop,rate=100,burst_size=10",
];

/** One call: the arguments, `@` for the bridge, and what is read from `-`. */
type Call = readonly [args: string, input?: string];

const CALLS: readonly Call[] = [
  ["show @"],
  ["dump-desc @"],
  ...FLOWS.map((flow): Call => ["add-flow @ -", flow]),
  ["dump-flows @"],
  ["dump-flows @ table=0"],
  ["dump-flows @ table=4,ip"],
  ["dump-flows @ out_port=2"],
  ["dump-flows @ cookie=0x1234/-1"],
  ["dump-flows --no-stats @"],
  ["dump-aggregate @"],
  ["dump-aggregate @ table=0"],
  ["dump-tables @"],
  ["dump-table-features @"],
  ["dump-table-desc @"],
  ["mod-flows @ table=0,ip,actions=output:3"],
  ["mod-flows --strict @ table=0,priority=31,tcp,nw_dst=10.0.0.2,tp_dst=80,actions=output:2"],
  ["mod-flows --strict @ table=9,priority=31,tcp,nw_dst=10.0.0.2,actions=output:2"],
  ["dump-flows @"],
  ["del-flows --strict @ table=0,priority=32,udp,tp_src=53"],
  ["del-flows @ table=0,ip"],
  ["del-flows @ cookie=0x1234/0xffff"],
  ["dump-flows @"],
  ["add-flow @ check_overlap,priority=10,actions=drop"],
  ["add-flow @ check_overlap,priority=10,ip,actions=drop"],
  ["add-flow @ check_overlap,reset_counts,table=7,priority=11,arp,actions=drop"],
  ["dump-flows @ table=7"],
  ["add-flow @ actions=group:77"],
  ["add-flow @ table=5,actions=goto_table:4"],
  ["add-flow @ actions=meter:55,1"],
  ["replace-flows @ -", FLOWS.slice(0, 6).join("\n")],
  ["dump-flows @"],
  ["diff-flows @ -", `${FLOWS.slice(1, 8).join("\n")}\n`],
  ["--bundle add-flows @ -", FLOWS.slice(1, 9).join("\n")],
  ["--bundle add-flows @ -", `${FLOWS[9]}\nactions=group:99\n`],
  ["--bundle replace-flows @ -", FLOWS.slice(2, 5).join("\n")],
  ["dump-flows @"],
  ["del-flows @"],
  ...GROUPS.map((group): Call => ["add-group @ -", group]),
  ["add-group @ group_id=1,type=all,bucket=output:1"],
  ["add-flow @ actions=group:1"],
  ["dump-flows @ out_group=1"],
  ["dump-groups @"],
  ["dump-groups @ 2"],
  ["dump-group-stats @"],
  ["dump-group-stats @ 1"],
  ["dump-group-features @"],
  ["mod-group @ group_id=1,type=all,bucket=output:3"],
  ["mod-group @ group_id=99,type=all,bucket=output:3"],
  ["--may-create mod-group @ group_id=9,type=all,bucket=output:3"],
  ["insert-buckets @ group_id=1,command_bucket_id=last,bucket=bucket_id=7,output:2"],
  ["insert-buckets @ group_id=1,command_bucket_id=last,bucket=bucket_id=7,output:2"],
  ["remove-buckets @ group_id=1,command_bucket_id=7"],
  ["remove-buckets @ group_id=1,command_bucket_id=7"],
  ["dump-groups @"],
  ["del-groups @ group_id=1"],
  ["dump-flows @"],
  ["--bundle add-groups @ -", "delete\nadd group_id=8,type=all,bucket=output:1\n"],
  ["bundle @ -", "flow add priority=3,actions=group:8\ngroup add group_id=6,type=indirect,bucket=output:1\n"],
  ["bundle @ -", "flow add priority=4,actions=1\ngroup add group_id=6,type=indirect,bucket=output:1\n"],
  ["dump-groups @"],
  ["dump-flows @"],
  ["del-groups @"],
  ...METERS.map((meter): Call => [`add-meter @ ${meter}`]),
  [`add-meter @ ${METERS[0]}`],
  ["dump-meters @"],
  ["dump-meters @ meter=2"],
  ["dump-meters @ meter=9"],
  ["mod-meter @ meter=1,kbps,burst,band=type=drop,rate=2000,burst_size=50"],
  ["mod-meter @ meter=9,kbps,band=type=drop,rate=2000"],
  ["dump-meters @"],
  ["meter-stats @"],
  ["meter-features @"],
  ["add-flow @ actions=meter:1,output:2"],
  ["del-meter @ meter=1"],
  ["dump-flows @"],
  ["del-meters @"],
  ["dump-meters @"],
  ["mod-port @ 1 no-flood"],
  ["mod-port @ p2 no-forward"],
  ["mod-port @ p3 down"],
  ["mod-port @ 9 down"],
  ["show @"],
  ["dump-ports-desc @"],
  ["mod-port @ 1 flood"],
  ["mod-port @ p2 forward"],
  ["mod-port @ p3 up"],
  ["dump-ports-desc @ 2"],
  ["dump-ports @"],
  ["dump-ports @ 2"],
  ["queue-stats @ 9"],
  ["queue-get-config @ 1"],
  ["mod-table @ 0 drop"],
  ["mod-table @ 1 evict"],
  ["mod-table @ 1 vacancy:20,80"],
  ["dump-table-desc @"],
  ["mod-table @ 1 noevict"],
  ["mod-table @ 1 novacancy"],
  ["mod-table @ 0 controller"],
  ["get-frags @"],
  ...["drop", "nx-match", "reassemble", "normal"].flatMap((mode): Call[] => [[`set-frags @ ${mode}`], ["get-frags @"]]),
  ["ct-flush-zone @ 5"],
  ["dump-tlv-map @"],
  ["add-tlv-map @ {class=0xffff,type=0,len=4}->tun_metadata0"],
  ["add-tlv-map @ {class=0xffff,type=1,len=8}->tun_metadata3,{class=0x102,type=7,len=124}->tun_metadata63"],
  ["add-tlv-map @ {class=0xffff,type=9,len=4}->tun_metadata0"],
  ["add-tlv-map @ {class=0xffff,type=1,len=8}->tun_metadata4"],
  ["add-tlv-map @ {class=1,type=1,len=124}->tun_metadata5"],
  ["add-tlv-map @ {class=1,type=2,len=6}->tun_metadata6"],
  ["dump-tlv-map @"],
  ["del-tlv-map @ {class=0xffff,type=0,len=4}->tun_metadata0"],
  ["dump-tlv-map @"],
  ["del-tlv-map @"],
  ["dump-tlv-map @"],
  ["packet-out @ in_port=1,packet=ffffffffffff02000000000188b50000,actions=output:2"],
  ["packet-out @ in_port=CONTROLLER,packet=ffffffffffff02000000000188b50000,actions=FLOOD"],
  ["packet-out @ in_port=1,packet=ffffffffffff02000000000188b50000,actions=group:99"],
  ["probe @"],
];

/** Differences that are none, and why. Each takes a text and gives what is compared. */
const NORMALIZE: readonly (readonly [why: string, change: (text: string) => string])[] = [
  ["what ovs-ofctl logs, with the time", (text) => text.replace(/^\d{4}-\d\d-\d\dT.*\|.*\n/gm, "")],
  ["dummy ports have a queue", (text) => text.replace(/ port=1\nqueue 0:\n/, "\n").replace(/ \d+ queues/, "")],
  ["how long something has been there", (text) => text.replace(/duration([=:])[0-9.]+s/g, "duration$1D")],
  ["seconds since the last packet", (text) => text.replace(/(idle|hard)_age=\d+/g, "$1_age=N")],
  ["what the switch and its ports are called", (text) => text.replace(/(dpid|addr):[0-9a-f:]+/g, "$1:X")],
  [
    "who made the switch",
    (text) => text.replace(/^(Manufacturer|Hardware|Software|Serial Num|DP Description): .*$/gm, "$1: X"),
  ],
  [
    "a bridge has no port of its own here",
    (text) => text.replace(/^ LOCAL\(br0\)(.*\n) +config.*\n +state.*\n +speed.*\n/gm, ""),
  ],
  [
    "counters of dummy ports that are not known, and of a port of the bridge's own",
    (text) =>
      text
        .replace(/\d+ ports\n/, "N ports\n")
        .replace(/^ {2}port LOCAL:.*\n.*\n( +duration.*\n)?( +CUSTOM.*\n( {22}.*\n)*)?/gm, "")
        .replace(/^ +CUSTOM.*\n( {22}.*\n)*/gm, "")
        .replace(/(pkts|bytes|drop|errs|frame|over|crc|coll)=(\d+|\?)/g, "$1=N"),
  ],
  [
    "how many meters there can be; OVS does not remark",
    (text) => text.replace(/max_meter:\d+/, "max_meter:N").replace("band_types: drop dscp_remark", "band_types: drop"),
  ],
  ["the order of flows of one table, of groups and of ports", (text) => sorted(text)],
];

/** Lines of lists sorted; what belongs to a line goes with it. */
const sorted = (text: string): string => {
  const [head = "", ...lines] = text.trimEnd().split("\n");
  const blocks: string[] = [];
  for (const line of lines) {
    if (/^ {1,2}\S/.test(line) || blocks.length === 0) blocks.push(line);
    else blocks[blocks.length - 1] += `\n${line}`;
  }
  return [head, ...blocks.sort()].join("\n");
};

const normalize = (text: string, socket: string): string =>
  NORMALIZE.reduce((so, [, change]) => change(so), text.replaceAll(socket, "BR"));

describe("runtime/ofproto: ovs-ofctl", function () {
  this.timeout(120_000);
  let ovs: Ovs;
  let own: OfprotoLab;

  before(async () => {
    ovs = await Ovs.start({ ports: 3 });
    own = await OfprotoLab.open(3);
  });
  after(async () => {
    await own?.[Symbol.asyncDispose]();
    await ovs?.stop();
  });

  for (const version of VERSIONS) {
    it(`says in ${version} what it says to Open vSwitch, ${CALLS.length} calls`, async () => {
      const differ: string[] = [];
      for (const [args, input] of CALLS) {
        const said = await Promise.all(
          [socketOf(ovs), own.socket].map(async (socket) => {
            const { code, text } = await ofctl(
              version,
              args.split(" ").map((arg) => (arg === "@" ? socket : arg)),
              input,
            );
            return `${normalize(text, socket)}[${code}]`;
          }),
        );
        if (said[0] !== said[1])
          differ.push(`${args}${input === undefined ? "" : ` <<< ${input}`}\nOVS: ${said[0]}\nwe:  ${said[1]}\n`);
      }
      assert.ok(differ.length === 0, differ.join("\n"));
    });
  }
});
