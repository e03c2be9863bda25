// Builds the pages into build/browser/pages of the project, from where the tests serve them.
import { defineConfig } from "vite";

export default defineConfig({
  root: "page",
  base: "./",
  logLevel: "error",
  build: {
    outDir: "../../../build/browser/pages",
    emptyOutDir: true,
    target: "es2022",
    chunkSizeWarningLimit: 10_000,
    rollupOptions: { input: ["page/web_forms.html"] },
  },
});
