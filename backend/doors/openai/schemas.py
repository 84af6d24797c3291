"""What OpenAI's clients send and are answered. Fields that are not named here are hints that change nothing, and are ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

Name = Annotated[str, StringConstraints(min_length=1, max_length=300)]
FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh"]
FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
Metadata = dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]]
_MOST_TOKENS = 10_000_000


# Errors -----------------------------------------------------------------------------------------------------------------


class ErrorBody(BaseModel):
    """What went wrong, as OpenAI's clients read it. `param` is the part of the request that is not right."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(BaseModel):
    """A refusal or a failure."""

    error: ErrorBody


# Models -----------------------------------------------------------------------------------------------------------------


class ListedModel(BaseModel):
    """Something that answers: an agent (`agent/<name>`), `auto`, or a model's full name."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(0, description="Seconds since 1970; 0 when nobody knows.")
    owned_by: str = Field(description="`agent`, `vibe` for `auto`, or the provider.")


class ModelList(BaseModel):
    """Everything that can be named as a model now."""

    object: Literal["list"] = "list"
    data: list[ListedModel]


# Chat completions: what is sent -----------------------------------------------------------------------------------------


class Part(BaseModel):
    """A piece of a message. Text is read; other types are refused in words."""

    type: str = Field(max_length=60)
    text: str | None = None
    refusal: str | None = None


class CalledFunction(BaseModel):
    """A call as the model wrote it: `arguments` is JSON text."""

    name: FunctionName
    arguments: str


class ChatCall(BaseModel):
    """A call of one of the client's tools."""

    id: str = Field(min_length=1, max_length=200)
    type: Literal["function"] = "function"
    function: CalledFunction


class SentMessage(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    refusal: str | None = None
    tool_calls: list[ChatCall] | None = None
    tool_call_id: str | None = Field(None, max_length=200)


class FunctionSpec(BaseModel):
    """A function of the client's that the model may ask for; `parameters` is a JSON Schema."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ChatTool(BaseModel):
    """A tool of the client's."""

    type: Literal["function"]
    function: FunctionSpec


class NamedFunction(BaseModel):
    """A function by its name."""

    name: FunctionName


class ChatToolChoice(BaseModel):
    """This function and no other."""

    type: Literal["function"]
    function: NamedFunction


class ResponseFormat(BaseModel):
    """The form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: dict[str, Any] | None = None


class StreamOptions(BaseModel):
    """What a stream holds besides the answer."""

    include_usage: bool | None = None


class ChatRequest(BaseModel):
    """A conversation to be continued.

    `model` is an agent's id, `agent/<name>`, `auto` (the account's default model) or a model's full name such as `openai/gpt-4o`.
    """

    model: Name
    messages: list[SentMessage] = Field(min_length=1, max_length=10_000)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    max_tokens: int | None = Field(None, ge=1, le=_MOST_TOKENS)
    max_completion_tokens: int | None = Field(None, ge=1, le=_MOST_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    frequency_penalty: float | None = Field(None, ge=-2, le=2)
    presence_penalty: float | None = Field(None, ge=-2, le=2)
    stop: Annotated[str, StringConstraints(min_length=1)] | Annotated[list[str], Field(max_length=4)] | None = None
    tools: list[ChatTool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ChatToolChoice | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    reasoning_effort: Effort | None = None
    logprobs: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    user: str | None = Field(None, max_length=512, description="With an agent: the id of a thread to go on with, when it is one.")
    metadata: Metadata | None = Field(None, description="With an agent: `thread_id` is the thread to go on with.")


# Chat completions: what is answered -------------------------------------------------------------------------------------


class InputDetails(BaseModel):
    """Tokens of the input that came from a cache."""

    cached_tokens: int


class OutputDetails(BaseModel):
    """Tokens of the output that were thoughts."""

    reasoning_tokens: int


class ChatUsage(BaseModel):
    """Tokens of one completion; with an agent, of the whole run."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: InputDetails
    completion_tokens_details: OutputDetails


class ChatAnswer(BaseModel):
    """The assistant's message. `reasoning_content` is what the model thought, where it shows it."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[ChatCall] | None = None


class ChatChoice(BaseModel):
    """The one choice there is."""

    index: Literal[0] = 0
    message: ChatAnswer
    logprobs: None = None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """An answer. With `stream` it comes as `chat.completion.chunk` events instead."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: ChatUsage


# Responses: what is sent ------------------------------------------------------------------------------------------------


class InputItem(BaseModel):
    """One entry of the input: a message (`role`, `content`), a `function_call`, its `function_call_output`, or a `reasoning` that came back."""

    type: str = Field("message", max_length=60)
    role: Literal["system", "developer", "user", "assistant"] | None = None
    content: str | list[Part] | None = None
    call_id: str | None = Field(None, max_length=200)
    name: str | None = Field(None, max_length=64)
    arguments: str | None = None
    output: str | list[Part] | None = None


class ResponseTool(BaseModel):
    """A function of the client's."""

    type: Literal["function"]
    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ResponseToolChoice(BaseModel):
    """This function and no other."""

    type: Literal["function"]
    name: FunctionName


class TextFormat(BaseModel):
    """The form of the answer; `schema` with `json_schema`."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(None, max_length=64)
    json_schema: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class TextConfig(BaseModel):
    """How text is answered."""

    format: TextFormat | None = None


class Reasoning(BaseModel):
    """How much the model thinks."""

    effort: Effort | None = None


class ResponseRequest(BaseModel):
    """Something to answer. `previous_response_id` goes on in the thread of an agent's earlier response."""

    model: Name
    input: Annotated[str, StringConstraints(min_length=1)] | Annotated[list[InputItem], Field(min_length=1, max_length=10_000)]
    instructions: str | None = None
    previous_response_id: str | None = Field(None, max_length=100)
    stream: bool | None = None
    background: Literal[False] | None = None
    max_output_tokens: int | None = Field(None, ge=1, le=_MOST_TOKENS)
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    tools: list[ResponseTool] | None = Field(None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | ResponseToolChoice | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Reasoning | None = None
    user: str | None = Field(None, max_length=512, description="With an agent: the id of a thread to go on with, when it is one.")
    metadata: Metadata | None = Field(None, description="With an agent: `thread_id` is the thread to go on with.")


# Responses: what is answered --------------------------------------------------------------------------------------------

ResponseStatus = Literal["queued", "in_progress", "completed", "failed", "cancelled", "incomplete"]


class ResponseError(BaseModel):
    """Why a response failed, in one of the codes that OpenAI's clients know."""

    code: Literal["server_error", "rate_limit_exceeded", "invalid_prompt"]
    message: str


class Incomplete(BaseModel):
    """Why a response ends early."""

    reason: Literal["max_output_tokens", "content_filter"]


class InputTokens(InputDetails):
    """Tokens of the input that came from a cache or went into one."""

    cache_write_tokens: int = 0


class ResponseUsage(BaseModel):
    """Tokens of one response; with an agent, of the whole run."""

    input_tokens: int
    input_tokens_details: InputTokens
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Response(BaseModel):
    """An answer. With `stream` it comes as `response.*` events instead."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: ResponseStatus
    error: ResponseError | None = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    model: str
    output: list[dict[str, Any]] = Field(description="Items of the types `message`, `reasoning` and `function_call`.")
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    tool_choice: str | dict[str, Any] = "auto"
    tools: list[dict[str, Any]] = Field(default_factory=list)
    max_output_tokens: int | None = None
    metadata: dict[str, str] = Field(default_factory=dict, description="What was sent; with an agent also `thread_id`.")
    usage: ResponseUsage | None = None


# Embeddings -------------------------------------------------------------------------------------------------------------


class EmbeddingRequest(BaseModel):
    """Texts to embed."""

    model: Name
    input: str | list[str] | list[int] | list[list[int]]
