import type { NextConfig } from "next";
import { PHASE_DEVELOPMENT_SERVER } from "next/constants";

// Development proxies to the API so that cookies stay on one origin; production is a static export that the API serves.
const api = process.env.VIBE_API_URL ?? "http://127.0.0.1:8000";

export default function config(phase: string): NextConfig {
  const shared: NextConfig = {
    reactStrictMode: true,
    images: { unoptimized: true },
    // Types and lint are gates of their own; `make up` builds without the test tools they need.
    typescript: { ignoreBuildErrors: true },
    eslint: { ignoreDuringBuilds: true },
  };
  if (phase !== PHASE_DEVELOPMENT_SERVER) {
    return { ...shared, output: "export", pageExtensions: ["tsx", "ts"] };
  }
  return {
    ...shared,
    devIndicators: false,
    // `page.dev.tsx` exists in development only: the sheet of primitives is never exported.
    pageExtensions: ["dev.tsx", "tsx", "ts"],
    rewrites: async () => [
      { source: "/api/:path*", destination: `${api}/api/:path*` },
      { source: "/health/:path*", destination: `${api}/health/:path*` },
    ],
  };
}
