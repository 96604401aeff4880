// Runs a WASI program: node run_wasi.mjs program.wasm arguments...
// It sees the current folder, as ".", the system's folder for temporary files, as "/tmp", and the environment; it
// ends with the program's exit status.
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { setFlagsFromString } from "node:v8";
import { WASI } from "node:wasi";

// Without it node 20 and later crash in programs that call WASI often: github.com/nodejs/node/issues/53087.
setFlagsFromString("--no-turbo-fast-api-calls");

const [program, ...args] = process.argv.slice(2);
const wasi = new WASI({
  version: "preview1",
  args: [program, ...args],
  env: process.env,
  preopens: { ".": ".", "/tmp": tmpdir() },
  returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
process.exitCode = wasi.start(instance);
