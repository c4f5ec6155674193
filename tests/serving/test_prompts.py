"""Items asked for in words: by prompt and negative for people, by texts and tokens for programs, from a real server."""

import base64
import io
import json
import struct
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
import text_parts

from components.core.bundles import read_bundle
from components.core.errors import BundleError
from components.runtime.prompts import Prompts
from components.runtime.session import GraphSampler
from components.serving.engine import Engine

CUT = "a cats on the moon two small dogish birds"  # 13 tokens, of which 6 of 8 are words
LONG = {"read": "a cats on the moon", "rest": "two small dogish birds", "tokens": 6}
MODEL = "/v2/models/digits"


@pytest.fixture(scope="module")
def worded(build_text: Callable[..., Path]) -> Path:
    return build_text()


@pytest.fixture(scope="module")
def steered(build_text: Callable[..., Path]) -> Path:
    return build_text(negative=True)


@pytest.fixture(scope="module")
def text_server(start: Any, worded: Path) -> Iterator[Any]:
    with start(worded) as server:
        yield server


@pytest.fixture(scope="module")
def steered_server(start: Any, steered: Path) -> Iterator[Any]:
    with start(steered) as server:
        yield server


def array(reply: httpx.Response) -> np.ndarray[Any, Any]:
    assert reply.status_code == 200, reply.text
    found: np.ndarray[Any, Any] = np.load(io.BytesIO(reply.content))
    return found


def expected(folder: Path, seeds: list[int], prompts: list[str], unwanted: list[str] | None = None) -> np.ndarray[Any, Any]:
    """What sampler and encoder of the bundle make by themselves."""
    bundle, encoder = read_bundle(folder), Prompts.open(folder)
    rows = encoder(prompts)
    if bundle.spec.condition is not None and bundle.spec.condition.shape[0] == 2:
        rows = np.stack([rows, encoder(unwanted or [""] * len(prompts))], axis=1)
    return GraphSampler.of(folder, bundle, batch=16, threads=1)(seeds, rows)


def test_the_items_are_those_of_the_prompts(text_server: Any, worded: Path) -> None:
    prompts = ["a red cat", "two small dogs", "a blue house on the moon"]
    made = array(text_server.generate(prompt=prompts, seeds=[4, 4, 4], format="npy"))
    assert np.array_equal(made, expected(worded, [4, 4, 4], prompts))
    assert len({each.tobytes() for each in made}) == 3, "the prompt makes no difference"
    again = array(text_server.generate(prompt="a red cat", seed=4, count=2, format="npy"))
    assert np.array_equal(again, expected(worded, [4, 5], ["a red cat"] * 2))


def test_the_same_prompt_and_seed_give_the_same_bytes_alone_in_company_and_elsewhere(
    text_server: Any, worded: Path, start: Any
) -> None:
    prompts = ["a red cat", "the moon", "", "a dog", CUT, "two birds", "a green house", "red"]
    together = array(text_server.generate(prompt=prompts, seeds=[*range(8)], format="npy"))
    with start(worded) as fresh:  # which remembers nothing
        alone = [array(fresh.generate(prompt=text, seed=seed, format="npy"))[0] for seed, text in enumerate(prompts)]
        assert np.array_equal(alone, together)
        assert fresh.generate(prompt="a red cat", seed=0).content == text_server.generate(prompt="a red cat", seed=0).content


def test_many_clients_get_what_each_asked_for(text_server: Any, worded: Path) -> None:
    nouns = ("cat", "dog", "bird", "house")
    prompts = [f"{colour} {noun}{end}" for colour in ("red", "blue", "green", "small") for noun in nouns for end in ("", "s")]
    made = expected(worded, [*range(len(prompts))], prompts)

    def ask(seed: int) -> bool:
        return np.array_equal(array(text_server.generate(prompt=prompts[seed], seed=seed, format="npy"))[0], made[seed])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(len(prompts))))


def test_without_a_prompt_nothing_in_particular_is_asked_for(text_server: Any, worded: Path) -> None:
    zeros = GraphSampler.of(worded, read_bundle(worded), batch=16, threads=1)(
        [3], np.zeros((1, text_parts.LENGTH, text_parts.FEATURES), np.float32)
    )
    for body in ({}, {"prompt": ""}, {"prompt": "   "}, {"prompt": [""]}):
        assert np.array_equal(array(text_server.generate(seed=3, format="npy", **body)), zeros)


def test_what_is_unwanted_steers_where_the_sampler_takes_it(steered_server: Any, steered: Path, text_server: Any) -> None:
    made = array(steered_server.generate(prompt="a red cat", negative="red", seed=4, count=2, format="npy"))
    assert np.array_equal(made, expected(steered, [4, 5], ["a red cat"] * 2, ["red"] * 2))
    plain = array(steered_server.generate(prompt="a red cat", seed=4, count=2, format="npy"))
    assert np.array_equal(plain, expected(steered, [4, 5], ["a red cat"] * 2))
    assert not np.array_equal(made, plain), "what is unwanted makes no difference"
    each = array(steered_server.generate(prompt="a cat", negative=["red", "blue"], seed=4, format="npy"))
    assert np.array_equal(each, expected(steered, [4, 5], ["a cat"] * 2, ["red", "blue"]))
    reply = text_server.generate(prompt="a red cat", negative="red")
    assert (reply.status_code, reply.json()["error"]) == (
        422,
        "negative: this model is not steered away from anything; leave it out",
    )


def test_a_prompt_that_is_too_long_is_cut_where_the_encoder_cuts_and_that_is_said(
    text_server: Any, steered_server: Any, worded: Path
) -> None:
    reply = text_server.generate(prompt=CUT, seed=1, format="npy")
    assert np.array_equal(array(reply), expected(worded, [1], [LONG["read"]]))
    assert reply.headers["x-prompt-cut"] == "6"
    assert "x-prompt-cut" not in text_server.generate(prompt="a red cat").headers
    assert text_server.generate(prompt=["a cat", CUT]).headers["x-prompt-cut"] == "0,6"
    body = {"prompt": ["a cat", CUT], "negative": CUT, "seed": 1}
    reply = steered_server.client.post("/v1/generate", json=body, headers={"Accept": "application/json"})
    first, second = reply.json()["images"]
    assert (reply.headers["x-prompt-cut"], reply.headers["x-negative-cut"]) == ("0,6", "6")
    cut = {"tokens": 6, "text": LONG["rest"]}
    assert (first["prompt"], first.get("prompt_cut"), first["negative_cut"]) == ("a cat", None, cut)
    assert (second["prompt"], second["prompt_cut"], second["negative"]) == (CUT, cut, CUT)
    assert (first["seed"], first["class"], base64.b64decode(first["png"])[:4]) == (1, None, b"\x89PNG")


BAD = [
    ({"prompt": 3}, "prompt: a number given; allowed: a text, or a list with one an item"),
    ({"prompt": True}, "prompt: true or false given"),
    ({"prompt": {"text": "a cat"}}, "prompt: an object given"),
    ({"prompt": []}, "prompt: an empty list given"),
    ({"prompt": ["a cat", 3]}, "prompt: a list with a number given"),
    ({"prompt": ["a cat", None]}, "prompt: a list with null given"),
    ({"prompt": [["a cat"]]}, "prompt: a list with a list given"),
    ({"prompt": None}, "prompt: null given; leave it out"),
    ({"prompt": "x" * 2049}, "prompt: 2049 characters given; allowed: at most 2048"),
    ({"prompt": "a\x00cat"}, r"prompt: 'a\x00cat' has a control character at 1"),
    ({"prompt": ["a cat", "a\ncat"]}, r"prompt: 'a\ncat' has a control character at 1; leave it out; several texts are a list"),
    ({"prompt": ["a", "b"], "count": 3}, "the numbers of items differ: count 3, prompt 2"),
    ({"prompt": ["a", "b"], "seeds": [1]}, "the numbers of items differ: seeds 1, prompt 2"),
    ({"prompt": ["a", "b"], "negative": ["c"]}, "the numbers of items differ: prompt 2, negative 1"),
    ({"prompt": ["a"] * 257}, "count: 257 given; allowed: 1 to 256"),
    ({"prompt": "a cat", "condition": [[0.0]]}, "both condition and prompt given; send the embedding or the words"),
    ({"negative": "a cat", "condition": [[0.0]]}, "both condition and negative given"),
]


@pytest.mark.parametrize(("body", "says"), BAD)
def test_words_that_are_none_are_422_in_one_line(steered_server: Any, body: Any, says: str) -> None:
    reply = steered_server.client.post("/v1/generate", json=body)
    assert reply.status_code == 422
    assert says in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


def test_half_of_a_character_is_422(text_server: Any) -> None:
    reply = text_server.client.post("/v1/generate", content=rb'{"prompt": "a \ud83d cat"}')
    assert (reply.status_code, "half of a character at 2" in reply.json()["error"]) == (422, True)
    assert text_server.client.post("/v1/generate", content=rb'{"prompt": "a \ud83d\ude00 cat"}').status_code == 200


def test_a_model_that_reads_no_words_says_so(server: Any, class_server: Any) -> None:
    for name in ("prompt", "negative"):
        reply = server.generate(**{name: "a cat"})
        assert (reply.status_code, reply.json()["error"]) == (422, f"{name}: this model reads no words; leave it out")
    reply = class_server.generate(prompt="two")
    assert (reply.status_code, reply.json()["error"]) == (
        422,
        "prompt: this model reads no words; send condition: a class by id or name",
    )


def test_embeddings_are_taken_as_ever(text_server: Any, worded: Path) -> None:
    rows = Prompts.open(worded)(["a red cat"])
    reply = text_server.generate(condition=rows[0].tolist(), seed=2, format="npy")
    assert np.array_equal(array(reply), expected(worded, [2], ["a red cat"]))


def test_numbers_that_are_none_of_an_embeddings_are_refused(text_server: Any) -> None:
    rows = np.zeros((text_parts.LENGTH, text_parts.FEATURES))
    rows[0, 0] = 1001
    assert text_server.generate(condition=rows.tolist()).status_code == 422
    reply = inferred(text_server, noise(1), tensor("condition", rows.ravel().tolist(), "FP32", [1, *rows.shape]))
    assert (reply.status_code, "allowed: -1000 to 1000" in reply.json()["error"]) == (400, True)
    flagged = [[False, *[0.0] * (text_parts.FEATURES - 1)], *[[0.0] * text_parts.FEATURES] * (text_parts.LENGTH - 1)]
    assert "not the numbers of an embedding" in text_server.generate(condition=flagged).json()["error"]


def tensor(name: str, rows: Any, datatype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "shape": shape, "datatype": datatype, "data": rows}


def noise(n: int) -> dict[str, Any]:
    return tensor("z", np.linspace(-2, 2, 16 * n).tolist(), "FP32", [n, 16])


def texts(name: str, given: list[str]) -> dict[str, Any]:
    return tensor(name, given, "BYTES", [len(given), 1])


def inferred(server: Any, *inputs: Any) -> httpx.Response:
    reply: httpx.Response = server.client.post(f"{MODEL}/infer", json={"inputs": [*inputs]})
    return reply


def test_programs_send_embeddings_tokens_or_texts(steered_server: Any, steered: Path) -> None:
    encoder, prompts, unwanted = Prompts.open(steered), ["a red cat", CUT], ["red", ""]
    rows = np.stack([encoder(prompts), encoder(unwanted)], axis=1)
    tokens = [tensor(name, encoder.tokens(given).tolist(), "INT64", [2, text_parts.LENGTH]) for name, given in
              (("tokens", prompts), ("negative_tokens", unwanted))]  # fmt: skip
    by_embedding = inferred(steered_server, noise(2), tensor("condition", rows.tolist(), "FP32", [*rows.shape]))
    assert by_embedding.status_code == 200, by_embedding.text
    by_tokens = inferred(steered_server, *tokens, noise(2))
    by_text = inferred(steered_server, texts("prompt", prompts), noise(2), texts("negative", unwanted))
    assert by_tokens.json() == by_text.json() == by_embedding.json()
    assert by_text.headers["x-prompt-cut"] == "0,6"
    wanted_alone = inferred(steered_server, noise(2), texts("prompt", prompts)).json()
    assert wanted_alone == inferred(steered_server, noise(2), tokens[0]).json() != by_text.json()


def test_texts_in_binary(text_server: Any) -> None:
    prompts = ["a red cat", "deux maisons à la lune 🌕"]
    data = b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in prompts)
    head = texts("prompt", prompts) | {"parameters": {"binary_data_size": len(data)}}
    del head["data"]
    text = json.dumps({"inputs": [head, noise(2)]}).encode()
    header = {"Inference-Header-Content-Length": str(len(text))}
    reply = text_server.client.post(f"{MODEL}/infer", content=text + data, headers=header)
    assert reply.status_code == 200, reply.text
    assert reply.json() == inferred(text_server, texts("prompt", prompts), noise(2)).json()


def test_metadata_tells_what_may_be_sent_in_place_of_the_condition(text_server: Any, steered_server: Any) -> None:
    told = text_server.client.get(MODEL).json()
    assert [each["name"] for each in told["inputs"]] == ["z", "condition"]
    assert told["parameters"] == {
        "in_place_of": {
            "condition": [
                {"name": "prompt", "datatype": "BYTES", "shape": [-1, 1]},
                {"name": "tokens", "datatype": "INT64", "shape": [-1, text_parts.LENGTH]},
            ]
        }
    }
    names = [each["name"] for each in steered_server.client.get(MODEL).json()["parameters"]["in_place_of"]["condition"]]
    assert names == ["prompt", "negative", "tokens", "negative_tokens"]
    inputs = {each["name"]: each for each in text_server.client.get(f"{MODEL}/config").json()["input"]}
    assert inputs["prompt"] == {"name": "prompt", "data_type": "TYPE_STRING", "dims": [1], "optional": True}


def sized(data: bytes, size: int | None = None) -> tuple[dict[str, Any], bytes]:
    head = {"name": "prompt", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": size or len(data)}}
    return head, data


BAD_BINARY: dict[str, tuple[tuple[dict[str, Any], bytes], str]] = {
    "no length": (sized(b"abc"), "each text's length in four bytes"),
    "a length beyond the data": (sized(struct.pack("<I", 9) + b"a cat"), "each text's length in four bytes"),
    "an end without a length": (sized(struct.pack("<I", 1) + b"a" + b"b"), "each text's length in four bytes"),
    "two texts": (sized(2 * (struct.pack("<I", 1) + b"a")), "2 texts given; shape [1, 1] needs 1"),
    "not UTF-8": (sized(struct.pack("<I", 2) + b"\xff\xfe"), "not UTF-8 at byte 4"),
    "another size": (sized(struct.pack("<I", 1) + b"a", size=50), "binary_data_size 50, 5 bytes in the body"),
}


@pytest.mark.parametrize(("given", "says"), BAD_BINARY.values(), ids=BAD_BINARY)
def test_bad_binary_texts_are_400(text_server: Any, given: tuple[dict[str, Any], bytes], says: str) -> None:
    head, data = given
    text = json.dumps({"inputs": [noise(1), head]}).encode()
    header = {"Inference-Header-Content-Length": str(len(text))}
    reply = text_server.client.post(f"{MODEL}/infer", content=text + data, headers=header)
    assert (reply.status_code, says in reply.json()["error"]) == (400, True), reply.text


TOKENS = [2, 4, 5, 8, 3, 0, 0, 0]
BAD_INPUTS: dict[str, tuple[list[dict[str, Any]], str]] = {
    "nothing is asked": ([], "['z', 'condition'] or ['z', 'prompt'] or ['z', 'prompt', 'negative'] or ['z', 'tokens']"),
    "both ways": ([texts("prompt", ["a"]), tensor("tokens", TOKENS, "INT64", [1, 8])], "each once"),
    "unwanted alone": ([texts("negative", ["a"])], "each once"),
    "numbers": ([tensor("prompt", [1], "BYTES", [1, 1])], "data must be a list of texts"),
    "no list": ([tensor("prompt", "a cat", "BYTES", [1, 1])], "data must be a list of texts"),
    "too deep": ([tensor("prompt", [[["a"]]], "BYTES", [1, 1])], "data must be a list of texts"),
    "two for one": ([tensor("prompt", ["a", "b"], "BYTES", [1, 1])], "2 texts given; shape [1, 1] needs 1"),
    "another shape": ([tensor("prompt", ["a"], "BYTES", [1])], "allowed: [-1, 1]"),
    "another type": ([tensor("prompt", ["a"], "FP32", [1, 1])], "allowed: BYTES"),
    "more texts than noise": ([texts("prompt", ["a", "b"])], "first dimensions differ"),
    "a control character": ([texts("prompt", ["a\x1b[0m"])], "input 'prompt': 'a\\x1b[0m' has a control character at 1"),
    "no such token": ([tensor("tokens", [99, *TOKENS[1:]], "INT64", [1, 8])], "a token that does not exist; allowed: 0 to 18"),
    "a token below": ([tensor("tokens", [-1, *TOKENS[1:]], "INT64", [1, 8])], "a token that does not exist"),
    "other tokens": ([tensor("tokens", TOKENS[:5], "INT64", [1, 5])], "allowed: [-1, 8]"),
}


@pytest.mark.parametrize(("inputs", "says"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_inputs_that_cannot_be_read_are_400(steered_server: Any, inputs: list[dict[str, Any]], says: str) -> None:
    reply = inferred(steered_server, noise(1), *inputs)
    assert (reply.status_code, says in reply.json()["error"]) == (400, True), reply.text


def test_what_a_model_without_words_takes_is_said_as_ever(server: Any) -> None:
    reply = inferred(server, noise(1), texts("prompt", ["a"]))
    assert reply.json()["error"] == "inputs ['z', 'prompt'] given; the model takes ['z'], each once"


def test_the_encoder_is_asked_once_for_what_it_has_encoded(start: Any, worded: Path) -> None:
    def counted(server: Any) -> tuple[float, float, float]:
        lines = dict(line.rsplit(" ", 1) for line in server.client.get("/metrics").text.splitlines() if line[0] != "#")
        found = [float(lines[f'genwright_prompts_total{{found="{way}",model="digits"}}']) for way in ("encoder", "memory")]
        return *found, float(lines['genwright_stage_seconds_count{model="digits",stage="text"}'])  # type: ignore[return-value]

    with start(worded) as server:
        assert counted(server) == (0, 0, 0)
        server.generate(prompt=["a cat", "a dog", "A  CAT"], seed=1)  # of the same tokens as the first
        assert counted(server) == (2, 0, 2)
        server.generate(prompt="a dog", count=4)
        inferred(server, noise(1), texts("prompt", ["a cat"]))
        assert counted(server) == (2, 2, 2)


@pytest.mark.slow
def test_one_that_remembers_nothing_gives_the_same(start: Any, worded: Path) -> None:
    with start(worded, limits={"embeddings_bytes": 0}) as server:
        made = [array(server.generate(prompt="a red cat", seed=4, format="npy")) for _ in range(2)]
    assert np.array_equal(made[0], made[1])
    assert np.array_equal(made[0], expected(worded, [4], ["a red cat"]))


def test_the_root_and_the_greeting_show_how_to_ask(steered_server: Any) -> None:
    body = steered_server.client.get("/").json()
    assert body["models"][0]["text"] == {"encoder": text_parts.CONDITION["encoder"], "tokens": 8, "negative": True}
    example = body["generate"]["example"]
    assert example["prompt"] == "what you ask for"
    assert steered_server.client.post("/v1/generate", json=example).status_code == 200
    assert '"prompt": "what you ask for"' in steered_server.greeting


def test_the_document_tells_of_prompts(text_server: Any, steered_server: Any) -> None:
    for server, negative in ((text_server, False), (steered_server, True)):
        paths = server.client.get("/openapi.json").json()["paths"]
        ways = paths["/v1/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        worded = [way for way in ways if "prompt" in way["properties"]]
        assert [way["properties"]["prompt"]["type"] for way in worded] == ["string", "string", "array"]
        assert all(("negative" in way["properties"]) is negative for way in worded)
        inputs = paths[f"{MODEL}/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"]["inputs"]
        assert len(inputs["oneOf"]) == (5 if negative else 3)


def nan_of_cats(folder: Path) -> None:
    """The encoder makes NaN of one word."""
    path = folder / "text_encoder.onnx"
    model = onnx.load(path)
    (table,) = (each for each in model.graph.initializer if each.name == "words")
    rows = onnx.numpy_helper.to_array(table).copy()
    rows[text_parts.VOCABULARY.index("cat")] = 3e38  # whose norm is beyond FP32
    table.CopyFrom(onnx.numpy_helper.from_array(rows, "words"))
    onnx.save(model, path)


def test_a_prompt_of_which_the_encoder_makes_no_numbers_is_500_in_one_line(build_text: Any, start: Any) -> None:
    with start(build_text(fill=nan_of_cats)) as server:
        reply = server.generate(prompt="a cat")
        assert (reply.status_code, "NaN or infinite of this text" in reply.json()["error"]) == (500, True)
        assert server.generate(prompt="a dog").status_code == 200


def slow_encoder(folder: Path) -> None:
    """One that takes some hundredths of a second a text."""
    path = folder / "text_encoder.onnx"
    model = onnx.load(path)
    (last,) = (node for node in model.graph.node if node.output[0] == "embedding")
    last.output[0] = "narrow"
    wide = {"up": (text_parts.FEATURES, 1024), "on": (1024, 1024), "down": (1024, text_parts.FEATURES)}
    for name, shape in wide.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(shape, 1e-3, np.float32), name))
    turns = ["narrow", *(f"w{k}" for k in range(60)), "embedding"]
    for k, (before, after) in enumerate(pairwise(turns)):
        weight = "up" if k == 0 else "down" if after == "embedding" else "on"
        model.graph.node.append(onnx.helper.make_node("MatMul", [before, weight], [after]))
    onnx.save(model, path)


@pytest.mark.slow
def test_a_full_queue_of_prompts_is_429_and_holds_up_nobody_else(build_text: Any, start: Any) -> None:
    with (
        start(build_text(fill=slow_encoder), limits={"queued": 8, "embeddings_bytes": 0}) as server,
        ThreadPoolExecutor(1) as pool,
    ):
        colours, nouns = ("red", "blue", "green", "small"), ("cat", "dog", "bird", "house")
        many = [f"{colour} {noun}{end}" for colour in colours for noun in nouns for end in ("", "s", "ish")]

        def ask_many() -> Any:
            return pool.submit(httpx.post, f"{server.url}/v1/generate", json={"prompt": many}, timeout=60, trust_env=False)

        first = ask_many()
        while (refused := server.generate(prompt=many[:9])).status_code == 200:
            if first.done():  # it came while these nine were read, and was itself refused
                first = ask_many()
        assert (refused.status_code, refused.headers["retry-after"].isdigit()) == (429, True)
        assert server.client.get("/v2/health/ready").status_code == 200
        assert server.generate(condition=np.zeros((8, 12)).tolist()).status_code == 200  # which needs no encoder
        assert not first.done(), "the others were not answered meanwhile"
        assert first.result().status_code == 200


def other_tokenizer(folder: Path, **changes: Any) -> None:
    text_parts.tokenizer(**changes).save(str(folder / "tokenizer.json"))


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer.json: not a tokenizer"),
    "no JSON": (lambda folder: (folder / "tokenizer.json").write_bytes(b"\xff\x00"), "tokenizer.json: not a tokenizer"),
    "another length": (lambda folder: other_tokenizer(folder, length=9), "tokenizer.json: reads 9 tokens of a text; allowed: 8"),
    "another vocabulary": (
        lambda folder: other_tokenizer(folder, words=(*text_parts.VOCABULARY, "more")),
        "has 20 tokens, which text_encoder.onnx cannot encode",
    ),
}


@pytest.mark.parametrize(("fill", "says"), DAMAGE.values(), ids=DAMAGE)
def test_a_tokenizer_that_is_not_the_encoders_is_not_loaded(build_text: Any, fill: Callable[[Path], Any], says: str) -> None:
    with pytest.raises(BundleError) as refused:
        Engine.load(build_text(fill=fill), threads=1)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
