import js from "@eslint/js";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["**/dist/**", "**/node_modules/**"] },
  js.configs.recommended,
  ...tseslint.configs.recommended,
  {
    files: ["**/*.ts"],
    rules: {
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "no-restricted-properties": ["error"],
    },
  },
  {
    // Only loader/sys calls C.
    files: ["**/*.ts"],
    ignores: ["loader/sys/**"],
    rules: { "no-restricted-imports": ["error", { paths: ["koffi"] }] },
  },
);
