import hooks from "eslint-plugin-react-hooks";
import { readdirSync } from "node:fs";
import tseslint from "typescript-eslint";

// The floors of src/: app -> features -> components -> api -> lib. A file may use what stands below it.
const forbid = (files, groups, message) => ({
  files: [files],
  rules: { "no-restricted-imports": ["error", { patterns: [{ group: groups, message }], paths: named }] },
});
const named = [
  {
    name: "next/navigation",
    importNames: ["useParams", "useSearchParams"],
    message: "The export knows neither: useRouteId() and useSearchState() do.",
  },
  { name: "radix-ui", message: 'Import one part, as "radix-ui/dialog": the whole package would weigh on every page.' },
];
const features = readdirSync(new URL("src/features", import.meta.url));

export default tseslint.config(
  { files: ["e2e/**"], rules: { "no-empty-pattern": "off" } },
  { ignores: [".next/", "out/", "node_modules/", "src/api/schema.d.ts", "next-env.d.ts", "test-results/", "playwright-report/"] },
  ...tseslint.configs.recommended,
  {
    plugins: { "react-hooks": hooks },
    linterOptions: { reportUnusedDisableDirectives: "off" },
    rules: {
      "no-restricted-imports": ["error", { paths: named }],
      "react-hooks/rules-of-hooks": "error",
      "react-hooks/exhaustive-deps": "error",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_", ignoreRestSiblings: true }],
      "@typescript-eslint/no-explicit-any": "error",
      "@typescript-eslint/consistent-type-imports": ["error", { fixStyle: "inline-type-imports", disallowTypeAnnotations: false }],
      "no-restricted-syntax": [
        "error",
        { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: "Nothing here is raw HTML." },
      ],
    },
  },
  forbid("src/lib/**", ["@/api/*", "@/components/*", "@/features/*", "@/app/*"], "lib is the ground floor."),
  forbid("src/api/**", ["@/components/*", "@/features/*", "@/app/*"], "api stands on lib alone."),
  forbid("src/components/**", ["@/features/*", "@/app/*"], "components stand on api and lib."),
  ...features.map((feature) => ({
    files: [`src/features/${feature}/**`],
    rules: {
      "no-restricted-imports": [
        "error",
        { patterns: [{ group: ["@/features/*", "@/app/*", "../../*"], message: "A feature never imports a feature: what two share is a component." }], paths: named },
      ],
    },
  })),
  {
    files: ["src/app/**"],
    rules: { "no-restricted-imports": ["error", { patterns: [{ group: ["@/api/queries/*"], message: "A route is thin: screens ask." }], paths: named }] },
  },
);
