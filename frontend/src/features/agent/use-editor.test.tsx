import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { act, renderHook, waitFor } from "@testing-library/react";
import type { ReactNode } from "react";

import { agentKeys, useDraft, type TaggedDraft } from "@/api/queries/agents";
import type { AgentConfig } from "@/api/types";
import { config as plainConfig } from "./fixtures";
import { useEditor } from "./use-editor";

const config = plainConfig();

/** The API's side of a draft: one text, one number that every save must name. */
class Server {
  revision = 1;
  config: AgentConfig = config;

  draft(): TaggedDraft["value"] {
    return {
      agent_id: "a",
      exists: true,
      revision: this.revision,
      based_on: 1,
      config: this.config,
      yaml: `name: ${this.config.name}\n`,
      updated_at: "2026-11-17T14:00:00Z",
    };
  }

  async answer(request: Request): Promise<Response> {
    const url = new URL(request.url);
    if (url.pathname.endsWith("/validate")) return this.validate((await request.json()) as { yaml: string });
    if (request.method === "PUT" && request.headers.get("if-match") !== `"${this.revision}"`) {
      return Response.json({ title: "Somebody changed it in the meantime", status: 412 }, { status: 412 });
    }
    if (request.method === "PUT") {
      this.config = ((await request.json()) as { config: AgentConfig }).config;
      this.revision += 1;
    }
    return Response.json(this.draft(), { headers: { ETag: `"${this.revision}"` } });
  }

  private validate({ yaml }: { yaml: string }): Response {
    const name = /name"?:\s*"?([\w ]+)/.exec(yaml)?.[1];
    if (!name) return Response.json({ config: null, yaml: null, errors: [{ line: 1, column: 1, loc: "", message: "name is missing" }] });
    return Response.json({ config: { ...config, name }, yaml: `name: ${name}\n`, errors: [] });
  }
}

function open() {
  const server = new Server();
  vi.stubGlobal("fetch", (request: Request) => server.answer(request));
  const cache = new QueryClient({ defaultOptions: { queries: { retry: false } } });
  cache.setQueryData(agentKeys.draft("a"), { value: server.draft(), etag: '"1"' });
  const wrapper = ({ children }: { children: ReactNode }) => <QueryClientProvider client={cache}>{children}</QueryClientProvider>;
  const editor = () =>
    renderHook(
      () => {
        const draft = useDraft("a");
        return useEditor("a", draft.data as TaggedDraft);
      },
      { wrapper },
    );
  return { server, editor };
}

afterEach(() => vi.unstubAllGlobals());

test("a saved draft is no longer dirty, and the next save names the new revision", async () => {
  const { server, editor } = open();
  const { result } = editor();
  act(() => result.current.change({ ...config, name: "One" }));
  expect(result.current.dirty).toBe(true);
  await act(() => result.current.store());
  expect(result.current.dirty).toBe(false);
  act(() => result.current.change({ ...config, name: "Two" }));
  await act(() => result.current.store());
  expect(server.config.name).toBe("Two");
  expect(result.current.conflict).toBeUndefined();
});

test("somebody else's save becomes a conflict; nothing is overwritten and nothing typed is lost", async () => {
  const { server, editor } = open();
  const { result } = editor();
  act(() => result.current.change({ ...config, name: "Mine" }));
  server.config = { ...config, name: "Theirs" };
  server.revision = 2;
  await act(() => result.current.store());
  expect(result.current.conflict?.theirs.value.config.name).toBe("Theirs");
  expect(result.current.config.name).toBe("Mine");
  expect(server.config.name).toBe("Theirs");
  await act(() => result.current.keepMine());
  expect(server.config.name).toBe("Mine");
  expect(result.current.dirty).toBe(false);
});

test("the form becomes YAML, and a YAML that reads becomes the form", async () => {
  const { editor } = open();
  const { result } = editor();
  act(() => result.current.change({ ...config, name: "From form" }));
  await act(() => result.current.showYaml());
  expect(result.current.yaml).toBe("name: From form\n");
  act(() => result.current.changeYaml("name: From text\n"));
  await waitFor(() => expect(result.current.config.name).toBe("From text"));
  act(() => result.current.changeYaml("nam: oops\n"));
  await waitFor(() => expect(result.current.errors).toHaveLength(1));
  expect(result.current.config.name).toBe("From text");
  expect(result.current.yaml).toBe("nam: oops\n");
});

test("what was not saved is still there after going away and coming back", () => {
  const { editor } = open();
  const first = editor();
  act(() => first.result.current.change({ ...config, name: "Half done" }));
  first.unmount();
  expect(editor().result.current.config.name).toBe("Half done");
});
