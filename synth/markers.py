"""Words of a row that a model or a prompt would take for its own structure.

A row's question, choices and answer become part of prompts. A server turns `<|im_end|>` inside them into the
token that ends a turn, and what follows would speak as somebody else; an image token would promise an image
that is not there. Such a row is refused rather than rewritten, since a question with words taken out is
another question. The list is closed:

- `<|name|>`: Qwen, Llama 3 and 4, GPT, Phi, GLM, Kimi; with DeepSeek's wide bars as well. The name has 2 to
  40 letters, digits, `_`, `.`, `-` or spaces: one letter is a mean value, `<|x|>`.
- `<|turn>`, `<turn|>` and their kind (Gemma 4), `<start_of_turn>`, `<bos>` and theirs (Gemma 1 to 3).
- `[INST]`, `<<SYS>>` and theirs (Llama 2, Mistral), image tokens that hold neither bars nor an HTML name.
- `<think>`, `<answer>` and the sections of our own prompts (synth/prompts/), opened or closed: `</question>`
  inside a question would end it, and `<think>` is a token of reasoning models besides. As written there: in
  capitals, `List<Task>`, it is somebody's code.

What is also ordinary writing passes: `<s>` and `<img>` are HTML, `<image>` and `<image1>` are how many
datasets refer to their pictures.
"""

from __future__ import annotations

import re

_WRITTEN = (
    *("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    *("[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    *("[IMG_BREAK]", "[IMG_END]", "<IMG_CONTEXT>", "<image_soft_token>", "[gMASK]"),
    *("<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>", "<end_of_utterance>"),
    *("<bos>", "<eos>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"),
)
_ONE_BAR = "turn|image|audio|tool|tool_call|tool_response|channel"
_SECTIONS = "task|description|question|reasoning|think|answer"
# Every branch is bounded, so that the search takes linear time.
_MARKER = re.compile(
    "|".join(
        (
            r"<\|[A-Za-z0-9_.\- ]{2,40}\|>",
            r"<｜[A-Za-z0-9_.\-▁ ]{2,40}｜>",
            rf"<\|(?:{_ONE_BAR})>",
            rf"<(?:{_ONE_BAR})\|>",
            *map(re.escape, _WRITTEN),
            rf"</?(?:{_SECTIONS})>",
        )
    )
)


def find_marker(text: str) -> str | None:
    """The first marker in a text, as it is written there; None where there is none."""
    found = _MARKER.search(text)
    return found[0] if found else None
