"""Secrets at rest: AES-256-GCM under keys derived from `VIBE_SECRET_KEY`, bound to what they belong to."""

import base64
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from backend.kit.problems import Unavailable

_NONCE = 12


class WrongSecretKey(Unavailable):
    """A stored secret does not open with this VIBE_SECRET_KEY"""


def load_or_make_key(path: Path) -> str:
    """The secret in `path`, made with mode 0600 when it is not there. Safe against two starters."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    if not path.exists():
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(base64.urlsafe_b64encode(os.urandom(32)).decode())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    return path.read_text().strip()


class Sealer:
    """Seals and opens secrets. `purpose` separates keys, `bound_to` ties a secret to its row."""

    def __init__(self, secret_key: str) -> None:
        self._secret = secret_key.encode()

    def derive(self, purpose: str) -> bytes:
        """32 bytes for one purpose (HKDF-SHA256, RFC 5869)."""
        return HKDF(hashes.SHA256(), 32, salt=b"vibe", info=purpose.encode()).derive(self._secret)

    def seal(self, purpose: str, bound_to: str, secret: str) -> bytes:
        """`secret` as nonce and ciphertext."""
        nonce = os.urandom(_NONCE)
        return nonce + AESGCM(self.derive(purpose)).encrypt(nonce, secret.encode(), bound_to.encode())

    def open(self, purpose: str, bound_to: str, sealed: bytes) -> str:
        """The secret that `seal` hid; `WrongSecretKey` when the key or the row is another."""
        try:
            return AESGCM(self.derive(purpose)).decrypt(sealed[:_NONCE], sealed[_NONCE:], bound_to.encode()).decode()
        except InvalidTag:
            raise WrongSecretKey("Restore the VIBE_SECRET_KEY it was stored with, or store it again.") from None
