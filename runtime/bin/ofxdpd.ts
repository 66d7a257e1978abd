#!/usr/bin/env node
// The daemon's executable.

import { runOfxdpd } from "../cli.js";

await runOfxdpd(process.argv.slice(2));
