"""Failures as OpenAI's clients read them: a status they know, and `{"error": {message, type, param, code}}`."""

from typing import Any

from backend.agent.inference import errors as models
from backend.agent.inference.errors import ModelError
from backend.kit import problems
from backend.kit.problems import Problem

# Some clients send again by themselves what failed with 409, 429 or 5xx. This header stops them where that would do a thing twice.
DO_NOT_RETRY = {"x-should-retry": "false"}


class Refused(Problem):
    """The request cannot be answered as it stands"""

    status = 400

    def __init__(self, detail: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(detail, param=param, code=code)


class RunNotCompleted(Problem):
    """The agent's run did not come to its end"""

    def __init__(self, detail: str, *, status: int, code: str) -> None:
        super().__init__(detail, headers=DO_NOT_RETRY, code=code)
        self.status = status


class NoSuchModel(problems.NotFound):
    """There is no such model or agent"""

    def __init__(self, detail: str) -> None:
        super().__init__(detail, param="model", code="model_not_found")


_MODEL_ERRORS: tuple[tuple[type[ModelError], int, str], ...] = (
    (models.KeyRejected, 502, "provider_key_rejected"),
    (models.ModelNotFound, 404, "model_not_found"),
    (models.ContextOverflow, 400, "context_length_exceeded"),
    (models.BadModelRequest, 400, "bad_model_request"),
    (models.NotConfigured, 503, "not_configured"),
    (models.UpstreamTimeout, 504, "upstream_timeout"),
    (models.UpstreamFailed, 502, "upstream_failed"),
)


def of_model(error: ModelError) -> Problem:
    """A failed model call as a problem with the status that OpenAI's clients expect."""
    if isinstance(error, models.RateLimited):
        code = "rate_limit_exceeded" if error.retryable else "insufficient_quota"
        status, headers = 429, {} if error.retryable else dict(DO_NOT_RETRY)
    else:
        status, code = next(((status, code) for kind, status, code in _MODEL_ERRORS if isinstance(error, kind)), (502, "upstream_failed"))
        headers = dict(DO_NOT_RETRY) if status == 503 else {}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after)))
    problem = Problem(error.detail, headers=headers, code=code, param="model" if code == "model_not_found" else None)
    problem.status = status
    return problem


def body(problem: Problem) -> dict[str, Any]:
    """The error object; 422 is not among the statuses OpenAI uses, see `status`."""
    message = problem.detail or f"{problem.title()}."
    if problem.detail and type(problem) not in (Problem, Refused, RunNotCompleted):
        message = f"{problem.title()}. {problem.detail}"
    param: str | None = problem.members.get("param")
    if param is None and (errors := problem.members.get("errors")):
        param = errors[0]["loc"]
        message = f"{param}: {errors[0]['message']}"
    code: str | None = problem.members.get("code") or _CODES.get(problem.status)
    return {"error": {"message": message, "type": _type(problem.status), "param": param, "code": code}}


def status(problem: Problem) -> int:
    """The HTTP status: what we call an invalid payload is a bad request there."""
    return 400 if problem.status == 422 else problem.status


_CODES = {401: "invalid_api_key", 403: "insufficient_permissions", 404: "not_found", 413: "too_large", 429: "rate_limit_exceeded"}


def _type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"
