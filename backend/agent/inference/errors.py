"""How a model call fails, in words that hold for every vendor. Providers raise these and never retry."""


class ModelError(Exception):
    """The model call failed"""

    retryable = False

    def __init__(
        self,
        detail: str,
        *,
        provider: str = "",
        status: int | None = None,
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        """`detail` is safe to show: no key is in it. `retry_after` is in seconds from now."""
        super().__init__(detail)
        self.detail = detail
        self.provider = provider
        self.status = status
        self.retry_after = retry_after
        if retryable is not None:
            self.retryable = retryable


class KeyRejected(ModelError):
    """The provider does not accept the key"""


class ModelNotFound(ModelError):
    """The provider does not know this model"""


class RateLimited(ModelError):
    """The provider asks to wait. Not retryable when the account's quota or credit is used up"""

    retryable = True


class ContextOverflow(ModelError):
    """The conversation is longer than the model's context"""


class BadModelRequest(ModelError):
    """The provider refuses the request as it stands"""


class UpstreamFailed(ModelError):
    """The provider failed: an error of its own, a broken stream, or an answer that makes no sense"""

    retryable = True


class UpstreamTimeout(ModelError):
    """The provider was silent for too long"""

    retryable = True


class NotConfigured(ModelError):
    """The provider is not set up; `setting` names what is missing"""

    def __init__(self, detail: str, *, setting: str, provider: str = "") -> None:
        super().__init__(detail, provider=provider)
        self.setting = setting
