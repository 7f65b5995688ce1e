"""The page at /docs, in a real browser, with real models on a real local stack: it is asked as a visitor asks.

With CLIPPER_PICTURE=file the picture of docs/images is taken anew.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

import clipper_nomad
from clipper_nomad import ClipperConnection
from tests.process.browsers import Tab, browser_or_skip, tab

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(180)]

SHOWN = "!document.getElementById('app').hidden && document.getElementById('ready').textContent"
ANSWERED = "document.querySelector('#answer .pill') && !document.getElementById('send').disabled"
ENTER, TAB_KEY, DOWN = 13, 9, 40


def shout(texts: np.ndarray[Any, Any]) -> list[str]:
    return [f"<b>{text.upper()}</b>" for text in texts]


@pytest.fixture(scope="module")
def browser() -> str:
    return browser_or_skip()


@pytest.fixture(scope="module")
def clipper(browser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClipperConnection]:
    connection = clipper_nomad.local(home=tmp_path_factory.mktemp("stack"), port=0)
    try:
        features, target = load_diabetes(return_X_y=True)
        connection.deploy(
            LinearRegression().fit(features, target).predict, name="diabetes", sample=features[:1], input_type="doubles"
        )
        connection.deploy(shout, name="shout", sample="a text", input_type="strings")
        connection.register_application("unlinked", "doubles", "-1.0", 100_000)
        yield connection
    finally:
        connection.stop_all()


@pytest.fixture(scope="module")
def root(clipper: ClipperConnection) -> str:
    return clipper.predict_url("diabetes").removesuffix("/diabetes/predict")


async def ask(page: Tab, body: str) -> None:
    """Replace what stands in the editor, with the keyboard alone, and send it."""
    await page.value("document.getElementById('query').focus(); document.getElementById('query').select()")
    await page.type(body)
    await page.value("document.getElementById('answer').replaceChildren()")
    await page.press("Enter", code=ENTER, with_control=True)
    await page.wait_for(ANSWERED)


async def test_a_visitor_asks_a_model_and_sees_its_answer(browser: str, root: str, clipper: ClipperConnection) -> None:
    async with tab(browser) as page:
        await page.open(f"{root}/diabetes/docs")
        await page.wait_for(SHOWN)
        assert (await page.text("h1"), await page.text("#ready")) == ("diabetes", "ready")
        assert await page.text("#kind") == "takes doubles"
        assert await page.value("[...document.querySelectorAll('#apps a')].map(a => a.firstChild.textContent)") == [
            *("diabetes", "shout", "unlinked"),
        ]
        inputs = [(number % 9 + 1) / 10 for number in range(10)]
        assert await page.value("JSON.parse(document.getElementById('query').value)") == {"input": inputs}

        await page.value("document.getElementById('send').click()")
        await page.wait_for(ANSWERED)

        assert await page.text("#answer .pill") == "200 OK"
        assert float(await page.text("#answer .output")) == clipper.predict("diabetes", inputs).output
        assert "ms" in await page.text("#answer .took")
        assert page.problems == []
        await ask_often(page)
        if picture := os.environ.get("CLIPPER_PICTURE"):
            await page.wait_for("document.getAnimations().length === 0")
            await page.picture(Path(picture))


async def ask_often(page: Tab) -> None:
    """Send until the bars of latencies are drawn."""
    for count in range(2, 25):
        await page.value("document.getElementById('answer').replaceChildren(); document.getElementById('send').click()")
        await page.wait_for(f"{ANSWERED} && document.querySelectorAll('#bars i').length === {count}")
    assert (await page.text("#summary")).startswith("last 24: median ")


async def test_the_command_that_is_shown_is_one(browser: str, root: str) -> None:
    async with tab(browser) as page:
        await page.open(f"{root}/shout/docs")
        await page.wait_for(SHOWN)
        await ask(page, '{"input": "it\'s <i>here</i> \u00e4"}')

        command = await page.text("#curl")

    assert command.startswith(f"curl {root}/shout/predict \\\n  -d '")
    shell = await asyncio.create_subprocess_shell(f"{command} --silent --max-time 20", stdout=asyncio.subprocess.PIPE)
    said, _ = await shell.communicate()
    assert shell.returncode == 0
    assert '"output":"<b>IT\'S <I>HERE</I> Ä</b>"' in said.decode()


async def test_what_a_model_says_is_shown_as_text(browser: str, root: str) -> None:
    async with tab(browser) as page:
        await page.open(f"{root}/shout/docs")
        await page.wait_for(SHOWN)

        await ask(page, '{"input": "<img src=x onerror=alert(1)>"}')

        assert await page.text("#answer .output") == '"<b><IMG SRC=X ONERROR=ALERT(1)></b>"'
        assert await page.value("document.querySelectorAll('#answer img, #answer b').length") == 0
        assert page.problems == []


async def test_v2_a_pinned_version_and_an_error_are_tried_too(browser: str, root: str) -> None:
    async with tab(browser, is_dark=True) as page:
        await page.open(f"{root}/diabetes/docs")
        await page.wait_for(SHOWN)
        await page.value("document.querySelector('input[value=v2]').click()")
        await page.value("document.getElementById('version').selectedIndex = 1")
        await page.value("document.getElementById('version').dispatchEvent(new Event('change'))")
        assert await page.text("#path") == f"{urlsplit(root).path}/v2/models/diabetes/versions/1/infer"

        await page.value("document.getElementById('send').click()")
        await page.wait_for(ANSWERED)

        assert await page.text("#answer .pill") == "200 OK"
        assert "FP64 [1]" in await page.text("#answer dl")
        await ask(page, "{")
        assert await page.text("#answer .pill") == "400 Bad Request"
        assert "not of the protocol's form" in await page.text("#answer .output")
        assert page.problems == []
        light = "rgb(246, 245, 242)"
        assert await page.value("getComputedStyle(document.body).backgroundColor") != light


async def test_the_keyboard_leads_everywhere_and_a_default_output_is_marked(browser: str, root: str) -> None:
    async with tab(browser) as page:
        await page.open(f"{root}/docs")
        await page.wait_for(SHOWN)
        await page.value("document.querySelector('#apps a').focus()")
        for _ in range(2):
            await page.press("ArrowDown", code=DOWN)
        await page.press("Enter", code=ENTER)
        await page.wait_for("document.querySelector('h1').textContent === 'unlinked'")
        assert await page.value("location.pathname") == f"{urlsplit(root).path}/unlinked/docs"
        stops = []
        for _ in range(6):
            await page.press("Tab", code=TAB_KEY)
            stops.append(await page.value("document.activeElement.id || document.activeElement.name"))
        assert stops == ["form", "version", "query", "send", "copy", "curl"]

        await ask(page, '{"input": [1.0]}')

        pills = await page.value("[...document.querySelectorAll('#answer .pill')].map(each => each.textContent)")
        assert pills == ["200 OK", "default output"]
        assert await page.text("#answer .why") == "No connected models found for query"
        await page.wait_for("document.getElementById('ready').textContent === 'not ready'")


async def test_the_page_asks_nobody_but_its_own_server(browser: str, root: str) -> None:
    async with tab(browser, width=390, height=800) as page:
        await page.open(f"{root}/docs")
        await page.wait_for(SHOWN)
        await ask(page, '{"input": [1.0]}')

        hosts = {urlsplit(url).netloc for url in page.asked if not url.startswith("data:")}
        assert hosts == {urlsplit(root).netloc}
        assert await page.value("document.documentElement.scrollWidth <= innerWidth"), "a narrow page scrolls sideways"


async def test_a_page_of_another_site_cannot_ask(browser: str, root: str) -> None:
    async with tab(browser) as page:
        await page.open(f"{root.replace('127.0.0.1', 'localhost')}/docs")
        await page.wait_for(SHOWN)

        for target, how in (("/openapi.json", "GET"), ("/diabetes/predict", "POST"), ("/v2/models/diabetes/infer", "POST")):
            script = f"fetch('{root}{target}', {{method: '{how}', mode: 'cors'}}).then(() => 'read', () => 'refused')"
            assert await page.value(script) == "refused"
