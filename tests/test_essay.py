"""The essay: the numbers of its eight pictures are Python's, and all of them are dragged."""

import json
from urllib.parse import urlencode

import numpy as np
import pytest
from ntkdyn.figures import interactive

import ntkdyn as nd
from ntkdyn import records

CLOSE = {"rtol": 1e-6, "atol": 1e-9}
LEFT = 2.0 ** -np.arange(10)

pytestmark = pytest.mark.slow


class Essay:
    """Somebody who reads it."""

    def __init__(self, page):
        self.page = page

    def set(self, figure, **values):
        """Values of a figure's grips, and what the figure finds then."""
        text = self.page.evaluate(
            """([name, values]) => { const figure = essay.figures[name];
              Object.assign(figure.values, values); dispatchEvent(new Event("resize"));
              return JSON.stringify(figure.result); }""",
            [figure, values],
        )
        return json.loads(text)

    def value(self, figure, key):
        return self.page.evaluate(f"essay.figures.{figure}.values.{key}")

    def said(self, figure):
        return self.page.inner_text(f"#{figure} .said")

    def centre(self, selector):
        self.page.locator(selector).first.scroll_into_view_if_needed()
        box = self.page.locator(selector).first.bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def drag(self, selector, by=(0, 0), to=None):
        x, y = self.centre(selector)
        end = self.centre(to) if to else (x + by[0], y + by[1])
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=5)
        self.page.mouse.up()


@pytest.fixture(scope="module")
def opened_essay(browser, pages):
    page = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
    said, fetched = [], []
    page.on("console", lambda m: said.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto((pages / "essay.html").as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    yield page
    assert said == []
    assert [url for url in fetched if not url.startswith(("file:", "data:"))] == []


@pytest.fixture
def essay(opened_essay):
    for button in opened_essay.locator(".again").all():
        button.click()
    return Essay(opened_essay)


def ring(agents=8):
    return nd.graphs.metropolis(nd.graphs.ring(agents))


def pulled():
    """Curvatures and slopes of the agents of the pictures on bias and step, and the optimum."""
    owner, a = np.repeat(np.arange(8), 4), np.arange(32)
    arc = (owner + (a % 4 + 0.5) / 4) / 8
    u = 2 * np.pi * (0.2 * (a * (np.sqrt(5) - 1) / 2 % 1) + 0.8 * arc)
    features = np.stack(
        [np.ones(32), np.cos(u) / 2**0.5, np.sin(u) / 2**0.5, np.cos(2 * u) / 2, np.sin(2 * u) / 2],
        axis=1,
    )
    y = np.sin(u) + np.cos(2 * u) / 2 + 0.3 * np.cos(5 * u) + 0.4 * np.sin(2.4 * (owner + 1))
    H = np.stack([f.T @ f / 4 for f in np.split(features, 8)])
    b = np.stack([f.T @ t / 4 for f, t in zip(np.split(features, 8), np.split(y, 8), strict=True)])
    return features, y, owner, H, b, np.linalg.solve(H.sum(0), b.sum(0))


def one_round(H, eta):
    """W (x) I - eta diag(H_i)."""
    steps = np.kron(np.asarray(ring()), np.eye(5))
    for i, block in enumerate(H):
        steps[5 * i : 5 * i + 5, 5 * i : 5 * i + 5] -= eta * block
    return steps


def rms(x, best):
    return np.sqrt(((x.reshape(8, 5) - best) ** 2).sum(1).mean())


@pytest.mark.parametrize("s", [0.3, 1.0, 1.7, 2.2])
def test_one_agent_is_predict_s(essay, s):
    problem = nd.KernelProblem(np.eye(1), np.zeros((1, 1)), np.zeros(1, int), np.ones((1, 1)))
    rounds = list(range(21))
    record = nd.predict(problem, nd.methods.dgd(step_size=s), nd.graphs.isolated(1), rounds)
    seen = essay.set("one", s=s)["seen"]
    np.testing.assert_allclose(seen, record["outputs"].values.ravel(), **CLOSE)
    assert ("times as large" in essay.said("one")) == (s > 2)


@pytest.mark.parametrize("rounds", [0, 3, 7.3])
def test_patterns_are_predict_s(essay, rounds):
    """A kernel with these eigenvalues, its losses the mean over ten points."""
    K, none = np.diag(LEFT), np.zeros(10, int)
    problem = nd.KernelProblem(K, np.zeros((10, 1)), none, np.ones((10, 1)))
    found = essay.set("modes", rounds=rounds)
    method = nd.methods.dgd(step_size=0.9 * 10)
    record = nd.predict(problem, method, nd.graphs.isolated(1), [0, found["t"]])
    assert found["t"] == round(2**rounds)
    np.testing.assert_allclose(found["left"], record["outputs"].values[-1].ravel(), **CLOSE)


def test_a_rumour_spreads_by_the_powers_of_w(essay):
    chords = [[], [[0, 4]], [[0, 4], [2, 6]]]
    slow = []
    for extra in chords:
        links = [[i, (i + 1) % 8] for i in range(8)] + extra
        found = essay.set("graph", links=[sorted(link) for link in links])
        W = np.asarray(nd.graphs.metropolis(nd.graphs.from_edges(links, 8)))
        x, apart = np.eye(8)[0], []
        for _ in range(41):
            apart.append(np.sqrt(((x - 1 / 8) ** 2).mean()))
            x = W @ x
        np.testing.assert_allclose(found["apart"], apart, **CLOSE)
        assert found["slow"] == pytest.approx(np.sort(np.abs(np.linalg.eigvalsh(W)))[-2], abs=1e-9)
        slow.append(found["slow"])
    assert slow[2] < slow[0] < slow[1], "what the text says of one link across, and of two"


@pytest.mark.parametrize("step", [0.3, 0.66, 0.68, 1.2])
def test_products_of_patterns_are_eigenvalues_and_the_limit_is_the_package_s(essay, step):
    found = essay.set("product", step=step)
    W = np.asarray(ring())
    both = np.kron(W, np.eye(9)) - step * np.kron(np.eye(8), np.diag(LEFT[:9]))
    np.testing.assert_allclose(np.sort(found["left"]), np.linalg.eigvalsh(both), **CLOSE)
    problem = nd.KernelProblem(np.ones((8, 8)), np.zeros((8, 1)), np.arange(8))
    limit = nd.step_size_limit(problem, nd.methods.dgd(step_size=0.1), ring())
    assert found["limit"] == pytest.approx(limit, rel=1e-6)
    assert ("no error grows" in essay.said("product")) == (step < limit)


@pytest.mark.parametrize("step", [-2.0, -0.6])
def test_agents_come_to_rest_where_predict_says(essay, step):
    features, y, owner, H, b, best = pulled()
    found = essay.set("bias", step=step)
    x = np.linalg.solve(np.eye(40) - one_round(H, 10**step), 10**step * b.ravel())
    np.testing.assert_allclose(found["x"], x, rtol=1e-6, atol=1e-8)
    assert found["far"] == pytest.approx(rms(x, best), rel=1e-6)
    problem = nd.KernelProblem(features @ features.T, y[:, None], owner)
    record = nd.predict(problem, nd.methods.dgd(step_size=10**step), ring(), [0, 50_000])
    outputs = record["outputs"].values[-1, :, :, 0]
    np.testing.assert_allclose(x.reshape(8, 5) @ features.T, outputs, rtol=1e-6, atol=1e-6)


def test_halving_a_small_step_halves_the_distance(essay):
    far = [essay.set("bias", step=step)["far"] for step in (-2.0, -2.0 - np.log10(2))]
    assert far[0] / far[1] == pytest.approx(2, abs=0.05)


@pytest.mark.parametrize("rounds", [1, 2.5, 3])
def test_the_best_step_is_that_of_eigenvalues(essay, rounds):
    found = essay.set("step", rounds=rounds)
    *_, H, b, best = pulled()
    t = found["t"]
    assert t == round(10**rounds)
    steps = np.array(json.loads(essay.page.evaluate("JSON.stringify(PULLED.steps)")))
    far = []
    for eta in steps:
        values, modes = np.linalg.eigh(one_round(H, eta))
        rest = np.linalg.solve(np.eye(40) - one_round(H, eta), eta * b.ravel())
        far.append(rms(rest - modes @ (values**t * (modes.T @ rest)), best))
    np.testing.assert_allclose(found["far"], far, rtol=1e-6)
    assert found["best"] == steps[np.argmin(far)]


def test_more_rounds_want_smaller_steps(essay):
    best = [essay.set("step", rounds=each)["best"] for each in (1, 2, 2.5, 3)]
    assert best[0] == best[1] > best[2] > best[3]


@pytest.fixture(scope="module")
def recorded():
    return records.read(interactive.page.HERE / "widths.nc")


@pytest.mark.parametrize("width", [0, 6])
def test_the_real_network_is_predicted_as_predict_does(essay, recorded, width):
    found = essay.set("real", width=width)
    chosen = recorded.isel(width=width, start=0, step=1)
    y, f0 = (chosen[name].values.reshape(-1, 2) for name in ("targets", "initial"))
    problem = nd.KernelProblem(chosen["kernel"].values, y, chosen["owner"].values, f0)
    method = nd.methods.dgd(step_size=float(chosen["step_size"]))
    rounds = list(range(0, 201, 20))
    record = nd.predict(problem, method, chosen["mixing"].values, rounds)
    np.testing.assert_allclose(np.array(found["losses"])[rounds], record["train_loss"], **CLOSE)
    assert found["gap"] == pytest.approx(float(chosen["gap"]), rel=1e-3)


@pytest.mark.parametrize("tolerated", [-2.5, -1.5])
def test_the_width_that_a_gap_takes_is_that_of_the_fitted_line(essay, recorded, tolerated):
    found = essay.set("end", tolerated=tolerated)
    for step in range(2):
        gaps = recorded["gap"].isel(step=step).transpose("width", "start").values
        widths = np.repeat(recorded["width"].values, 3)
        slope, intercept = np.polyfit(np.log(widths), np.log(gaps.ravel()), 1)
        needed = np.exp((tolerated * np.log(10) - intercept) / slope)
        assert found["slopes"][step] == pytest.approx(slope, rel=1e-3)
        assert found["needed"][step] == pytest.approx(needed, rel=1e-2)
        assert 2 < 2 ** (-1 / slope) < 3, "what the text says of halving the gap"


GRIPS = [
    ("one", "s", (0, 40)), ("modes", "rounds", (-90, 0)), ("product", "step", (80, 0)),
    ("bias", "step", (-60, 20)), ("step", "rounds", (70, 0)), ("real", "width", (300, 0)),
    ("end", "tolerated", (0, 30)),
]  # fmt: skip


@pytest.mark.parametrize("figure, key, by", GRIPS)
def test_every_grip_is_dragged_and_moved_by_keys(essay, figure, key, by):
    before, said = essay.value(figure, key), essay.said(figure)
    grip = f'#{figure} [data-grip="{key}"]'
    essay.drag(grip, by)
    dragged = essay.value(figure, key)
    assert dragged != before and essay.said(figure) != said
    essay.page.focus(grip)
    essay.page.keyboard.press("ArrowLeft")
    assert essay.value(figure, key) < dragged
    essay.page.keyboard.press("End")
    last = float(essay.page.get_attribute(grip, "aria-valuemax"))
    assert essay.value(figure, key) == pytest.approx(last)
    assert essay.page.get_attribute(grip, "aria-valuetext")
    essay.page.click(f"#{figure} .again")
    assert essay.value(figure, key) == before


def test_links_are_drawn_by_dragging_and_by_keyboard(essay):
    agent = lambda i: f'#graph [data-agent="{i}"]'
    links = lambda: [list(map(int, link)) for link in essay.value("graph", "links")]
    essay.drag(agent(0), to=agent(4))
    assert [0, 4] in links() and len(links()) == 9
    essay.drag(agent(1), to=agent(0))
    assert [0, 1] not in links()
    essay.page.focus(agent(2))
    essay.page.keyboard.press("Enter")
    essay.page.focus(agent(6))
    essay.page.keyboard.press(" ")
    assert [2, 6] in links()
    for i in range(7):
        if [min(i, 7), max(i, 7)] in links():
            essay.drag(agent(i), to=agent(7))
    assert "in 2 parts" in essay.said("graph")


ASKED = {
    "one.s": "0.5", "modes.rounds": "7.3", "graph.links": "0_4.1_2", "product.step": "0.7",
    "bias.step": "-2", "step.rounds": "1.5", "real.width": "4", "end.tolerated": "-1.5",
}  # fmt: skip
"""another value of every picture, as the address has it"""


def opened_at(page, address):
    """The page anew, at that address."""
    url = page.url.partition("#")[0]
    page.goto("about:blank")
    page.goto(f"{url}#{address}")
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    return Essay(page)


def drawn(page):
    return page.evaluate("Object.values(essay.figures).map(({ svg }) => svg.innerHTML)")


def test_what_is_set_is_in_the_address_and_is_seen_again(essay):
    page, first = essay.page, drawn(essay.page)
    for grip, key, by in GRIPS:
        essay.drag(f'#{grip} [data-grip="{key}"]', by)
    essay.drag('#graph [data-agent="0"]', to='#graph [data-agent="4"]')
    page.wait_for_function("location.hash.includes('graph.links=0_4')")
    seen, address = drawn(page), page.url.partition("#")[2]
    assert all(a != b for a, b in zip(first, seen, strict=True))
    assert all(f"{figure}.{key}=" in address for figure, key, _ in GRIPS)
    opened_at(page, address)
    assert drawn(page) == seen and page.is_hidden("#notice")
    for button in page.locator(".again").all():
        button.click()
    page.wait_for_function("['', '#'].includes(location.hash)")
    assert drawn(page) == first


def test_a_link_sets_every_picture(essay):
    opened_at(essay.page, urlencode(ASKED))
    for place, value in ASKED.items():
        if place != "graph.links":
            assert essay.value(*place.split(".")) == float(value), place
    links = [tuple(map(int, link)) for link in essay.value("graph", "links")]
    ring = {tuple(sorted((i, (i + 1) % 8))) for i in range(8)}
    assert {*links} == ring ^ {(0, 4), (1, 2)}
    essay.page.evaluate("location.hash = 'one.s=1.2'")
    essay.page.wait_for_function("essay.figures.one.values.s === 1.2")
    assert essay.value("bias", "step") == -0.6, "what an address does not name is as at first"


def test_changes_are_undone_one_by_one_and_done_again(essay):
    page = opened_at(essay.page, "").page
    seen = [drawn(page)]
    essay.drag('#one [data-grip="s"]', (0, 40))
    seen.append(drawn(page))
    essay.drag('#graph [data-agent="0"]', to='#graph [data-agent="4"]')
    seen.append(drawn(page))
    page.focus('#bias [data-grip="step"]')
    page.keyboard.press("ArrowLeft")
    seen.append(drawn(page))
    page.evaluate("scrollTo(0, 0)")
    for before in (*seen[2::-1], seen[0]):
        page.keyboard.press("Control+z")
        assert drawn(page) == before
    assert page.url.endswith("#")
    for key, after in zip(("Control+y", "Control+Shift+Z", "Control+y"), seen[1:], strict=True):
        page.keyboard.press(key)
        assert drawn(page) == after
    assert page.evaluate("scrollY") > 1000, "what has changed is in sight"


@pytest.mark.parametrize(
    "address, names",
    [("one.s=9", "one.s 9"), ("one.s=", "one.s without a value"), ("one.s=abc", "one.s abc"),
     ("two.s=1", "two.s 1"), ("one.t=1", "one.t 1"), ("one=1", "one 1"), ("=", "there is no"),
     ("graph.links=0_9", "graph.links 0_9"), ("graph.links=1_1", "graph.links 1_1"),
     ("graph.links=4_0", "graph.links 4_0"), ("graph.links=0_1_2", "graph.links 0_1_2"),
     ("graph.chosen=3", "graph.chosen 3"), ("constructor.name=1", "constructor.name 1"),
     ("one.constructor=1", "one.constructor 1"), ("real.width=NaN", "real.width NaN"),
     ("one.s=1&bias.step=7", "bias.step 7"), ("one.s=%3Cimg%20src=x%3E", "one.s <img"),
     (f"one.s={'9' * 20000}", f"one.s {'9' * 40}…:")],
)  # fmt: skip
def test_an_address_that_cannot_be_read_is_said_and_no_picture_is_blank(essay, address, names):
    first = drawn(essay.page)
    opened_at(essay.page, address)
    said = essay.page.inner_text("#notice")
    assert said.startswith("The address cannot be read") and names in said
    assert drawn(essay.page) == first and essay.page.url.endswith("#")
    essay.page.focus('#one [data-grip="s"]')
    essay.page.keyboard.press("ArrowLeft")
    assert essay.page.is_hidden("#notice")


def test_places_on_the_page_are_no_settings(essay):
    first = drawn(essay.page)
    opened_at(essay.page, "bias")
    assert essay.page.is_hidden("#notice") and drawn(essay.page) == first
    assert essay.page.evaluate("scrollY") > 1000


def test_a_drag_is_answered_within_50_ms(essay):
    """The least of some, as others use the machine."""
    for figure, *_ in GRIPS:
        taken = essay.page.evaluate(
            """(name) => { const grip = document.querySelector(`#${name} [data-grip]`);
              const press = (key) => new KeyboardEvent("keydown", { key, bubbles: true });
              const taken = [];
              for (let k = 0; k < 8; k++) {
                const begun = performance.now();
                grip.dispatchEvent(press(k % 2 ? "ArrowLeft" : "ArrowRight"));
                grip.getBoundingClientRect();
                taken.push(performance.now() - begun);
              }
              return Math.min(...taken); }""",
            figure,
        )
        assert 0 < taken < 50, figure


def test_it_fits_phones_is_dark_at_night_and_prints(essay, pages):
    assert (pages / "essay.html").stat().st_size < 3_000_000
    page = essay.page
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    light = page.evaluate(paper)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("document.documentElement.dataset.theme === 'dark'")
    assert page.evaluate(paper) != light
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_function("document.documentElement.scrollWidth <= 390")
    page.emulate_media(color_scheme="light", media="print")
    assert page.locator(".again").first.is_hidden() and page.locator("#one svg").is_visible()
    page.emulate_media(media="screen")
    page.set_viewport_size({"width": 1440, "height": 900})


def test_it_prints_on_seven_pages(browser, pages):
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    page.goto((pages / "essay.html").as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    margins = dict.fromkeys(("top", "right", "bottom", "left"), "1cm")
    assert page.pdf(format="Letter", margin=margins).count(b"/Type /Page\n") <= 7
    page.close()


def test_it_tells_those_whose_browser_has_no_mathml(browser, pages):
    page = browser.new_page()
    page.add_init_script("delete window.MathMLElement")
    page.goto((pages / "essay.html").as_uri())
    page.wait_for_function("document.documentElement.dataset.ready === 'true'")
    assert page.inner_text("#notice").startswith("Your browser lays out no formulas")
    page.close()


def test_it_tells_those_without_scripts(browser, pages):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((pages / "essay.html").as_uri())
    page.wait_for_timeout(3300)
    assert page.locator("#notice").is_visible()
    context.close()
