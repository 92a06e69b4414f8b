"""Prompts that name no sound. Our own wording; the paper's ten are not published."""

INSTRUCTIONS: tuple[str, ...] = (
    "make the sound of this video",
    "what does this video sound like",
    "add the sound that fits the picture",
    "give this silent film its sound",
    "let us hear what happens here",
    "write down what would be heard",
    "describe the sound of this scene",
    "which sound belongs to these pictures",
    "imagine the sound track of this clip",
    "tell what you hear from what you see",
)
"""Ten fixed instructions without a caption (2411.05679, stage 1)."""

DEFAULT = INSTRUCTIONS[0]
"""Replacement for an empty prompt."""

ASK = INSTRUCTIONS[6]
"""Prompt that asks for a caption."""
