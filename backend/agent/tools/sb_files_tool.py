"""Files of the thread's workspace. All of it happens inside the sandbox, so no path and no link leads out of it."""

import hashlib
from dataclasses import dataclass
from typing import Annotated

from backend.agent.tools.base import Call, Tool, ToolError, ToolResult, action
from backend.agent.tools.workspace import Workspace
from backend.sandbox.protocol import WORKSPACE, NotFound

_READ_LIMIT = 60_000  # bytes of a file that one read returns
_ENTRIES = 500
_MATCHES = 100


@dataclass
class FilesTool(Tool):
    """Files in one workspace."""

    workspace: Workspace

    @action(effect="read")
    async def read_file(
        self,
        call: Call,
        path: Annotated[str, "Path in the workspace."],
        offset: Annotated[int, "Byte to start at."] = 0,
        length: Annotated[int, "Bytes to read, at most 60000."] = _READ_LIMIT,
    ) -> ToolResult:
        """Read a text file, or a part of it."""
        async with self.workspace.open() as sandbox:
            content = await sandbox.read(path, max(0, offset), max(1, min(length, _READ_LIMIT)))
        if b"\0" in content.data:
            return ToolResult(f"{path} is a binary file of {content.size:,} bytes (sha256 {content.sha256}).")
        end = content.offset + len(content.data)
        more = "" if end >= content.size else f"\n[bytes {content.offset}-{end} of {content.size}; read on from offset {end}]"
        return self.workspace.told(ToolResult(content.data.decode("utf-8", "replace") + more, truncated=bool(more)))

    @action(effect="idempotent")
    async def write_file(
        self, call: Call, path: Annotated[str, "Path in the workspace."], content: Annotated[str, "The whole new content."]
    ) -> ToolResult:
        """Write a whole file, replacing what was there; folders are made."""
        data = content.encode()
        async with self.workspace.open() as sandbox:
            await sandbox.write(path, data)
        return self.workspace.told(ToolResult(f"wrote {path} ({len(data):,} bytes)", artifacts=((path, len(data)),)))

    @action(effect="idempotent")
    async def edit_file(
        self,
        call: Call,
        path: Annotated[str, "Path in the workspace."],
        old: Annotated[str, "The passage to replace, exactly as it stands; it must occur once."],
        new: Annotated[str, "What stands there afterwards."],
    ) -> ToolResult:
        """Replace one passage of a text file."""
        if not old:
            raise ToolError("old must not be empty; use write_file for a new file.")
        async with self.workspace.open() as sandbox:
            before = await sandbox.read(path, 0, 16 * 1024 * 1024)
            text = before.data.decode("utf-8", "replace")
            count = text.count(old)
            if count != 1:
                if count == 0 and new and text.count(new) == 1:
                    return ToolResult(f"{path} already has this edit", artifacts=((path, before.size),))
                raise ToolError(f"old occurs {count} times in {path}; it must occur exactly once. Read the file and give more of its surroundings.")
            data = text.replace(old, new).encode()
            await sandbox.write(path, data, expected_sha256=before.sha256 or hashlib.sha256(before.data).hexdigest())
        return self.workspace.told(ToolResult(f"edited {path} ({len(data):,} bytes)", artifacts=((path, len(data)),)))

    @action(effect="read")
    async def list_files(
        self, call: Call, path: Annotated[str, "Folder in the workspace."] = WORKSPACE, depth: Annotated[int, "How many levels down, 1 to 5."] = 1
    ) -> ToolResult:
        """List a folder."""
        async with self.workspace.open() as sandbox:
            listing = await sandbox.list(path, max(1, min(depth, 5)), _ENTRIES)
        lines = [f"{e.path}{'/' if e.kind == 'dir' else f'  {e.size:,} bytes'}{f' -> {e.target}' if e.target else ''}" for e in listing.entries]
        if listing.truncated:
            lines.append(f"[more than {_ENTRIES} entries; list a deeper folder]")
        return self.workspace.told(ToolResult("\n".join(lines) or "empty folder", truncated=listing.truncated))

    @action(effect="read", timeout=120.0)
    async def search_files(
        self,
        call: Call,
        pattern: Annotated[str, "A regular expression; empty lists files by name."],
        path: Annotated[str, "Folder in the workspace."] = WORKSPACE,
        glob: Annotated[str, "Only in files of this name, e.g. *.py."] = "*",
    ) -> ToolResult:
        """Search the text of files."""
        async with self.workspace.open() as sandbox:
            found = await sandbox.search(pattern, path=path, glob=glob, limit=_MATCHES)
        lines = [f"{m.path}:{m.line}: {m.text}" if m.line else m.path for m in found.matches]
        if found.truncated:
            lines.append("[there is more; narrow the search]")
        return self.workspace.told(ToolResult("\n".join(lines) or "no match", truncated=found.truncated))

    @action(effect="idempotent")
    async def delete_file(self, call: Call, path: Annotated[str, "File or folder in the workspace; a folder with all that is in it."]) -> ToolResult:
        """Delete a file or folder."""
        async with self.workspace.open() as sandbox:
            try:
                await sandbox.delete(path)
            except NotFound:
                return ToolResult(f"{path} is not there", artifacts=((path, 0),))
        return self.workspace.told(ToolResult(f"deleted {path}", artifacts=((path, 0),)))
