// The building thread: see build.ts.

import { parentPort } from "node:worker_threads";
import { linux } from "libbpf-ts";
import { serveJobs } from "../worker.js";
import { build, type BuildJob } from "./build.js";

serveJobs(parentPort, (job: BuildJob) => build(linux(), job));
