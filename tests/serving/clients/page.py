# /// script
# requires-python = ">=3.11"
# dependencies = ["playwright==1.65.2"]
# ///
"""Somebody before the page at argv[2], in the Chromium at argv[1]. argv[3] is a token, argv[4] where a picture goes.

Three models are served: digits, with classes; walks, with a latent space; words, which reads prompts. Prints what they saw as
JSON.
"""

import json
import sys

from playwright.sync_api import Page, expect, sync_playwright

chromium, url, token, picture = sys.argv[1:5]


def captions(page: Page, *, first: str) -> list[str]:
    """What stands below the images, once the first of them is so called."""
    expect(page.locator("figcaption").first).to_have_text(first, use_inner_text=True)
    return page.locator("figcaption").all_inner_texts()


def walked(page: Page, share: str) -> list[str]:
    """The images so far on the way."""
    before = page.locator("figure img").first.get_attribute("src")
    page.get_by_label("how far").fill(share)
    expect(page.locator("figure img").first).not_to_have_attribute("src", before)
    return [each.get_attribute("src") for each in page.locator("figure img").all()]


with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    said, errors = {}, []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(url)
    expect(page.get_by_role("alert")).not_to_be_empty()
    said["refused"] = page.get_by_role("alert").inner_text()

    page.get_by_label("token").fill(token)
    page.get_by_label("model").wait_for(state="hidden")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("figcaption")).not_to_have_count(0)
    page.get_by_label("model").select_option("digits")
    said["at_first"] = captions(page, first="zero, seed 0")
    said["heading"] = page.get_by_role("heading", level=1).inner_text()
    page.screenshot(path=picture, full_page=True)

    page.get_by_label("images").fill("3")
    page.get_by_label("seed", exact=True).fill("5")
    page.get_by_label("class").select_option("two")
    said["of_a_class"] = captions(page, first="two, seed 5")
    page.get_by_role("button", name="Next seeds").click()
    said["next"] = captions(page, first="two, seed 8")

    page.get_by_label("model").select_option("walks")
    said["of_another_model"] = captions(page, first="seed 8")
    said["walk"] = [walked(page, share) for share in ("0.25", "0.5", "1")]

    page.get_by_label("model").select_option("words")
    said["of_no_prompt"] = captions(page, first="seed 8")
    page.get_by_label("prompt").fill("a red cat\na cats on the moon two small dogish bird's")
    page.get_by_label("negative").fill("two dogs")
    page.get_by_role("button", name="Generate").click()
    said["of_prompts"] = captions(page, first="seed 8\na red cat\nnot: two dogs")
    said["cut"] = page.get_by_role("status").inner_text()
    said["struck"] = page.locator("figcaption del").all_inner_texts()
    page.screenshot(path=picture.replace(".png", "-words.png"), full_page=True)

    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    said["copied"] = page.evaluate("() => navigator.clipboard.readText()")
    said["shown"] = page.locator("#curl").inner_text()

    page.get_by_label("images").fill("999")
    page.evaluate("() => document.getElementById('ask').noValidate = true")
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).not_to_be_empty()
    said["too_many"] = page.get_by_role("alert").inner_text()
    browser.close()
print(json.dumps(said | {"errors": errors}))
