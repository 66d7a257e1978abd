// The thread that builds direct programs: see build.ts.

import { parentPort } from "node:worker_threads";
import { linux } from "libbpf-ts";
import { serveJobs } from "../worker.js";
import { buildDirect, type DirectJob } from "./build.js";

serveJobs(parentPort, (job: DirectJob) => buildDirect(linux(), job));
