import assert from "node:assert/strict";
import { IrBuilder, printProgram } from "#compiler";

describe("printProgram()", () => {
  it("writes every kind of instruction", () => {
    const b = new IrBuilder("all", "xdp");
    const [out, next] = [b.block("out"), b.block("")];
    const key = b.slot("key", 16);
    b.origin = { text: "tcp actions=drop" };
    const data = b.ctx("data");
    b.branch("gt", b.alu("add", data, 14, "end"), b.ctx("data_end"), out, next, "else");
    b.place(next);
    b.origin = undefined;
    b.store("u16", key, 2, b.swap(16, b.load("u16", data, 12, "type")));
    b.store("u64", key, 8, 0xffff_ffff_0000n);
    const value = b.call("map_lookup_elem", [{ map: "flows" }, { at: key, off: 8 }], "map_value");
    b.unless("eq", value, 0, out);
    b.atomicAdd("u64", value, 8, b.value("one", 1));
    b.atomicAdd("u32", b.mapValue("stats", 64), 0, b.alu("sub", 7, b.ctx("packet_len"), "rest", 32));
    b.tailCall("progs", 3, out);
    b.place(out);
    b.ret(1);
    assert.equal(
      printProgram(b.finish()),
      `program all (xdp)
@entry.0:
  %data.0 = ctx.data  ; tcp actions=drop
  %end.1 = add %data.0, 14
  %data_end.2 = ctx.data_end
  if gt %end.1, %data_end.2 then @out.1 else @2 (else likely)
@2:
  %type.3 = u16 [%data.0 + 12]
  %swapped.4 = swap16 %type.3
  u16 [$key.0 + 2] = %swapped.4
  u64 [$key.0 + 8] = 0xffffffff0000
  %map_lookup_elem.5 = call map_lookup_elem(map flows, &$key.0 + 8)
  if eq %map_lookup_elem.5, 0 then @out.1 else @3 (else likely)
@3:
  %one.6 = 1
  atomic u64 [%map_lookup_elem.5 + 8] += %one.6
  %stats.7 = &stats[0] + 64
  %packet_len.8 = ctx.packet_len
  %rest.9 = sub32 7, %packet_len.8
  atomic u32 [%stats.7] += %rest.9
  tail_call progs[3] else @out.1
@out.1:
  return 1
`,
    );
  });
});
