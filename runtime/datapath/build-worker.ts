// The building thread: see build.ts.

import { parentPort } from "node:worker_threads";
import { exitCodeOf, OffloadError } from "ebpf-assembler";
import { linux } from "libbpf-ts";
import { build, type BuildReply, type BuildRequest } from "./build.js";

const answer = ({ id, job }: Exclude<BuildRequest, "end">): BuildReply => {
  try {
    return { id, built: build(linux(), job) };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const detail = error instanceof OffloadError ? error.toJSON() : {};
    return {
      id,
      failure: { message, exitCode: exitCodeOf(error), detail: JSON.parse(JSON.stringify(detail)) as typeof detail },
    };
  }
};

parentPort?.on("message", (request: BuildRequest) => {
  if (request === "end") parentPort?.close();
  else parentPort?.postMessage(answer(request));
});
