"""Opens a page of `hessian-probe render` in headless Chromium, uses it as a reader does, and prints what is seen as JSON.

Usage: browse_report.py REPORT.html SCREENSHOTS CHROMIUM CHROMEDRIVER

Needs the `selenium` package. Nothing is asserted here: the test that runs this knows what the run holds. SCREENSHOTS is a
directory for images of the page: wide in light and dark, and as wide as a phone.
"""

import base64
import json
import pathlib
import sys
import tempfile

from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]
WIDE = (1280, 1000)
PHONE = (375, 812)


def start(chromium, chromedriver, profile):
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in FLAGS + [f"--user-data-dir={profile}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options=options, service=Service(executable_path=chromedriver))


class Reader:
    def __init__(self, driver, page, screenshots):
        self.driver = driver
        self.page = page
        self.screenshots = screenshots

    def open(self, size, scheme, mobile=False):
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": mobile},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia",
            {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )
        self.driver.get(self.page.as_uri())

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def script(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def screenshot(self, name):
        """Of the whole page, however long."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        image = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
        )["data"]
        (self.screenshots / f"{name}.png").write_bytes(base64.b64decode(image))

    def tip(self, figure):
        return self.one(f"#{figure} .tip").text

    def hover(self, figure, across, down):
        """Where the pointer is over a share of the visible drawing."""
        box = next(box for box in self.all(f"#{figure} .drawing") if box.is_displayed())
        self.script("arguments[0].scrollIntoView({block: 'center'})", box)
        size = box.size
        x, y = (across - 0.5) * size["width"], (down - 0.5) * size["height"]
        ActionChains(self.driver).move_to_element_with_offset(box, int(x), int(y)).perform()
        return self.tip(figure)

    def drawing(self, figure):
        """The drawing that is seen, in pixels: its area, texts, zone and band, and how high the band is at the cursor."""
        return self.script(
            """const box = [...document.querySelectorAll(`#${arguments[0]} .drawing`)].find((box) => box.getClientRects().length);
            const svg = box.querySelector('svg');
            const { x, y } = JSON.parse(box.dataset.frame);
            const pixels = svg.getScreenCTM();
            const at = (left, top) => new DOMPoint(left, top).matrixTransform(pixels);
            const edges = (node) => {
                const { left, right, top, bottom } = node.getBoundingClientRect();
                return { left, right, top, bottom };
            };
            const filled = (name) => [...box.querySelectorAll(`[fill="var(--${name})"]`)];
            const [start, end] = [at(x[0], y[0]), at(x[1], y[1])];
            const cursor = box.querySelector('circle.dot');
            const covered = [];
            if (cursor) {
                for (let top = y[0]; top <= y[1]; top += 0.25) {
                    const point = new DOMPoint(cursor.cx.baseVal.value, top);
                    if (filled('band').some((band) => band.isPointInFill(point))) covered.push(at(point.x, top).y);
                }
            }
            return {
                area: { left: start.x, right: end.x, top: start.y, bottom: end.y },
                texts: [...box.querySelectorAll('text')].map((node) => ({ text: node.textContent.trim(), ...edges(node) })),
                zone: filled('zone').map(edges),
                band: covered.length ? [Math.min(...covered), Math.max(...covered)] : null,
                box: edges(box),
            };""",
            figure,
        )

    def press(self, key):
        ActionChains(self.driver).send_keys(key).perform()

    def tab_to(self, matches):
        """Presses Tab until the element that has the focus is the one that is sought."""
        for count in range(1, 40):
            self.press(Keys.TAB)
            if self.script(f"return document.activeElement.matches({json.dumps(matches)})"):
                return count
        return None

    def layout(self):
        return self.script(
            """const root = document.documentElement;
            return {scroll: root.scrollWidth, client: root.clientWidth,
                background: getComputedStyle(document.body).backgroundColor,
                ink: getComputedStyle(document.body).color,
                figure: getComputedStyle(document.querySelector('figure')).backgroundColor,
                text: getComputedStyle(document.querySelector('.drawing text')).fill}"""
        )

    def state(self):
        return {
            "step": self.one("#which").text,
            "range": self.script("return document.getElementById('step').getAttribute('aria-valuetext')"),
            "section": [section.text for section in self.all("section.step") if section.is_displayed()],
            "curve": self.script(
                "return document.querySelector('#figure-density .drawing path[stroke]')?.getAttribute('d') ?? null"
            ),
            "here": [row.text for row in self.all(".course tr.here")],
        }


def main():
    page, screenshots, chromium, chromedriver = sys.argv[1:5]
    page, screenshots = pathlib.Path(page).resolve(), pathlib.Path(screenshots)
    screenshots.mkdir(parents=True, exist_ok=True)
    seen = {}
    with tempfile.TemporaryDirectory() as profile:
        driver = start(chromium, chromedriver, profile)
        try:
            seen = browse(Reader(driver, page, screenshots))
            seen["console"] = driver.get_log("browser")
        finally:
            driver.quit()
    json.dump(seen, sys.stdout)


def browse(reader):
    seen = {}
    reader.open(WIDE, "light")
    seen["title"] = reader.driver.title
    seen["heading"] = reader.one("h1").text
    seen["body"] = reader.one("body").text
    seen["figures"] = [figure.get_attribute("id") for figure in reader.all("figure")]
    seen["requests"] = reader.script(
        "return performance.getEntriesByType('resource').map((entry) => entry.name).filter((name) => !name.startsWith('data:'))"
    )
    seen["light"] = reader.layout()
    seen["first"] = reader.state()
    reader.screenshot("light")

    seen["hover"] = {figure: reader.hover(figure, 0.55, 0.5) for figure in seen["figures"]}
    seen["tips_at_once"] = sum(bool(tip.text) for tip in reader.all(".tip"))

    reader.open(WIDE, "light")
    seen["tabs"] = reader.tab_to("#step")
    seen["outline"] = reader.script("return getComputedStyle(document.activeElement).outlineStyle")
    steps = []
    for key in [Keys.ARROW_LEFT, Keys.ARROW_LEFT, Keys.HOME, Keys.ARROW_RIGHT, Keys.END]:
        reader.press(key)
        steps.append(reader.state())
    seen["keys"] = steps
    seen["tabs_to_figure"] = reader.tab_to(".plot")
    seen["figure_outline"] = reader.script("return getComputedStyle(document.activeElement).outlineStyle")
    seen["focused"] = reader.script("return document.activeElement.closest('figure').id")
    told = [reader.tip(seen["focused"])]
    for key in [Keys.ARROW_LEFT, Keys.ARROW_UP, Keys.ESCAPE]:
        reader.press(key)
        told.append(reader.tip(seen["focused"]))
    seen["told"] = told
    seen["after_figure_keys"] = reader.state()

    # A click in the middle of the heat map chooses a step, too.
    box = next(box for box in reader.all("#figure-heat_map .drawing") if box.is_displayed())
    ActionChains(reader.driver).move_to_element(box).click().perform()
    seen["clicked"] = reader.state()["step"]

    # Each figure at the last step, where one who has no pointer comes to it.
    reader.open(WIDE, "light")
    seen["cursor"], seen["drawings"] = {}, {}
    for figure in seen["figures"]:
        if reader.tab_to(f"#{figure} .plot"):
            seen["cursor"][figure] = reader.tip(figure)
            seen["drawings"][figure] = reader.drawing(figure)
    [zone], box = (seen["drawings"]["figure-density"][part] for part in ["zone", "box"])
    middle = 0.5 * (zone["left"] + zone["right"]) - box["left"]
    seen["in_zone"] = reader.hover("figure-density", middle / (box["right"] - box["left"]), 0.5)

    reader.open(WIDE, "dark")
    seen["dark"] = reader.layout()
    reader.hover("figure-density", 0.55, 0.5)
    reader.screenshot("dark")

    reader.open(PHONE, "light", mobile=True)
    seen["phone"] = reader.layout()
    seen["phone_drawings"] = [
        box.get_attribute("class") for box in reader.all(".drawing") if box.is_displayed()
    ]
    seen["phone_text"] = reader.script(
        """const svg = [...document.querySelectorAll('.drawing svg')].find((svg) => svg.getClientRects().length);
        return Math.min(...[...svg.querySelectorAll('text')].map((text) => text.getBoundingClientRect().height))"""
    )
    seen["phone_hover"] = reader.hover("figure-density", 0.55, 0.5)
    reader.screenshot("phone")

    # Without a script.
    reader.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    reader.open(WIDE, "light")
    source = reader.driver.execute_cdp_cmd("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
    body = reader.driver.execute_cdp_cmd("DOM.querySelector", {"nodeId": source, "selector": "body"})["nodeId"]
    seen["plain"] = {
        selector: len(
            reader.driver.execute_cdp_cmd("DOM.querySelectorAll", {"nodeId": body, "selector": selector})["nodeIds"]
        )
        for selector in [
            ".wide svg",
            "section.step:not([hidden])",
            ".chooser[hidden]",
            ".course tbody tr",
            "#figure-density .wide [fill='var(--zone)']",
            "#figure-density .wide [fill='var(--band)']",
        ]
    }
    reader.screenshot("plain")
    return seen


if __name__ == "__main__":
    main()
