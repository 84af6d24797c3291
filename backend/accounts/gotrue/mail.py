"""Mail to people, over SMTP in a thread. Without a mail server the operator is told what to do instead."""

import asyncio
import logging
import smtplib
import ssl
from collections.abc import Coroutine
from email.message import EmailMessage
from urllib.parse import unquote, urlencode, urlsplit

from backend.kit.settings import Settings

log = logging.getLogger(__name__)
_SECONDS = 20.0
_MAX_WAITING = 100


class Mailer:
    """Sends mails, beside the requests that ask for them."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.vibe_smtp_url.get_secret_value() if settings.vibe_smtp_url else None
        self._from = settings.vibe_mail_from
        self._site = settings.vibe_public_url or f"http://{settings.vibe_host}:{settings.vibe_port}"
        self._sending: set[asyncio.Task[None]] = set()

    @property
    def configured(self) -> bool:
        """Whether there is a mail server."""
        return self._url is not None

    def later(self, work: Coroutine[None, None, None]) -> None:
        """Do this beside the request, which then takes as long whoever it is about."""
        if len(self._sending) >= _MAX_WAITING:
            work.close()
            log.error("too many mails wait to be sent")
            return
        task = asyncio.create_task(work)
        self._sending.add(task)
        task.add_done_callback(self._done)

    async def close(self) -> None:
        """Wait for what is being sent."""
        if self._sending:
            await asyncio.wait(self._sending, timeout=_SECONDS)

    def tell_operator(self, email: str) -> None:
        """Say in the log that somebody wants back in. The log holds no secret: the command asks for the new password."""
        how = f"vibe owner password --email {email}"
        log.warning("somebody has forgotten his password, and no mail server is set", extra={"email": email, "do": how, "setting": "VIBE_SMTP_URL"})

    async def send_recovery(self, email: str, name: str, token: str, redirect_to: str | None, minutes: int) -> None:
        """The way back: a link to a page of ours (`redirect_to` when it is one) and the same token to type."""
        link = f"{self._page(redirect_to)}?{urlencode({'token_hash': token, 'type': 'recovery'})}"
        text = (
            f"Hello {name},\n\nsomebody, hopefully you, wants to set a new password for {email}.\n\n"
            f"Open this link within {minutes} minutes:\n{link}\n\nOr enter this code: {token}\n\n"
            "If it was not you, do nothing: the password stays as it is.\n"
        )
        await asyncio.to_thread(self._send, email, "A new password", text)

    def _page(self, redirect_to: str | None) -> str:
        """Where the link leads: never to another site, for the token goes there."""
        ours, asked = urlsplit(self._site), urlsplit(redirect_to or "")
        if (asked.scheme, asked.netloc) == (ours.scheme, ours.netloc):
            return f"{self._site}{asked.path}"
        return f"{self._site}/login"

    def _send(self, to: str, subject: str, text: str) -> None:
        assert self._url is not None
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = self._from, to, subject
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        parts = urlsplit(self._url)
        host, secure = parts.hostname or "localhost", parts.scheme == "smtps"
        context = ssl.create_default_context()
        server = (
            smtplib.SMTP_SSL(host, parts.port or 465, timeout=_SECONDS, context=context)
            if secure
            else smtplib.SMTP(host, parts.port or 25, timeout=_SECONDS)
        )
        with server:
            server.ehlo()
            if not secure and server.has_extn("starttls"):
                server.starttls(context=context)
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(message)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a mail could not be sent", extra={"error": str(error)})
