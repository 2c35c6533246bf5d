"""The line on top of every page: where one is, who one is, and the way out."""

from labeler.board import BASE_SCRIPTS, Drawn, static

HTML = """<header class="rh">
<a class="rh-name" href="/app/annotate">Rankloop</a>
<nav class="rh-pages" aria-label="Pages">
<a href="/app/annotate" data-text="nav.annotate">Annotate</a><a href="/app/history" data-text="nav.history">History</a>
<a href="/app/" data-text="nav.dashboard">Dashboard</a>
<a href="/study/" hidden class="rh-owner" data-text="nav.studies">Studies</a>
<a href="/study/training" hidden class="rh-owner" data-text="nav.training">Training</a>
<a href="/study/lineage" hidden class="rh-owner" data-text="nav.lineage">Lineage</a>
<a href="/ops/" hidden class="rh-ops" data-text="nav.ops">Administration</a></nav>
<span class="rh-who"></span>
<form method="post" action="/logout"><button type="submit" class="rh-out" data-text="nav.logout">Log out</button></form>
</header>"""


class Header(Drawn):
    """header.js writes the account's name into it, and the reader's language."""

    def __init__(self) -> None:
        super().__init__(HTML, static("header.css"), static(*BASE_SCRIPTS, "header.js"))
