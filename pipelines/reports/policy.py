"""Content-Security-Policy of a page: it runs the scripts and styles of its template, shows what it holds, and no more.

A policy names the SHA-256 of each script and style sheet. They are taken from the template's own blocks before anything
is put together, never from the finished page: markup that got in by a name or a caption has no hash, and does nothing.
"""

from __future__ import annotations

import base64
import hashlib
import secrets

import jinja2
from markupsafe import Markup

# `file:` beside 'self': opened from disk a page has no origin, and not every browser takes its neighbours for its own.
# Of a page that came over HTTP, no browser opens it.
_MEDIA = "'self' data: file:"


class Policy:
    """Scripts, style sheets and rules of one page, gathered while it is rendered."""

    def __init__(self) -> None:
        self.place = Markup(f"<!-- {secrets.token_hex(16)} -->")
        """Text that stands in the head for the policy, until all is known; nobody can guess it."""
        self._scripts: list[str] = []
        self._styles: list[str] = []
        self._rules: dict[str, str] = {}

    def script(self, code: str) -> Markup:
        """A script of the template, which may run."""
        self._scripts.append(_hash(code))
        return Markup(f"<script>{code}</script>")

    def style(self, css: str) -> Markup:
        """A style sheet of the template, which applies."""
        self._styles.append(_hash(css))
        return Markup(f"<style>{css}</style>")

    def sized(self, declaration: str, number: float) -> str:
        """Class of an element with a computed size: `sized("width: %.2f%%", 40)`. Attributes of style do nothing."""
        rule = declaration % float(number)
        return self._rules.setdefault(rule, f"sized-{len(self._rules)}")

    def finish(self, page: str) -> str:
        """The rendered page, with its policy and the rules of `sized` in the head."""
        rules = "\n".join(f".{name} {{ {rule}; }}" for rule, name in self._rules.items())
        sheet = self.style(f"\n{rules}\n") if rules else ""
        sources = {
            "default-src": "'none'",
            "script-src": " ".join(self._scripts) or "'none'",
            "style-src": " ".join(self._styles) or "'none'",
            "img-src": _MEDIA,
            "media-src": _MEDIA,
            "base-uri": "'none'",
            "form-action": "'none'",
            "require-trusted-types-for": "'script'",  # no text becomes markup or code later on either
            "trusted-types": "'none'",
        }
        content = "; ".join(f"{name} {values}" for name, values in sources.items())
        head = f'<meta http-equiv="Content-Security-Policy" content="{content}">'
        head += f'\n<meta name="referrer" content="no-referrer">\n{sheet}'
        return page.replace(self.place, head.rstrip(), 1)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@jinja2.pass_context
def script(context: jinja2.runtime.Context, code: str) -> Markup:
    """Filter for the text of a script: `{% filter script %}...{% endfilter %}`."""
    return context["policy"].script(code)


@jinja2.pass_context
def style(context: jinja2.runtime.Context, css: str) -> Markup:
    """Filter for the text of a style sheet."""
    return context["policy"].style(css)
