"""Measures one library on one model, in a process of its own.

The argument is a task as JSON (`Task` in studies/src/peers/task.rs), the last line of the output what was found
(`Found` in studies/src/peers/found.rs). What a library cannot do is a result, too: its reason.
"""

import json
import sys
import time
import warnings

import memory
import torch
from failure import reason
from language_model import LanguageModel, named
from libraries import LIBRARIES
from safetensors.torch import save_file

RESULT = "peers result: "


def main():
    warnings.filterwarnings("ignore")
    task = json.loads(sys.argv[1])
    torch.set_num_threads(task["threads"])
    library = LIBRARIES[task["library"]]
    model = LanguageModel(task["model"], task["data"], library.ATTENTION[task["products"]])
    try:
        found = {"measured": MEASURES[task["measure"]](task, model, library)}
    except Exception as error:  # noqa: BLE001  Whatever keeps a library from working is what is reported.
        found = {"failed": reason(error)}
    found["version"] = library.version()
    print(RESULT + json.dumps(found), flush=True)


def measure_time(task, model, library):
    """Times gradients and products in turn; then what the products are, and what is computed from them."""
    peer = library(model, task["products"])
    vectors = [model.vector(path) for path in task["vectors"]]
    first = vectors[0]
    loss, gradient = model.gradient()
    # Once before the clock runs: buffers, and code that is loaded on first use.
    product = peer.product(first)
    save_file(named(model, product), task["product"])
    gradients, products = [], []
    for _ in range(task["rounds"]):
        gradients.append(seconds(model.gradient))
        products.append(seconds(lambda: peer.product(first)))
    started = time.process_time()
    lambda_max, residual, taken = peer.lambda_max(first, task["steps"], task["limit"])
    run = time.process_time() - started
    forms = [curvature(first, product)] + [curvature(v, peer.product(v)) for v in vectors[1:]]
    return {
        "loss": loss,
        # In f64: a plain sum of a million squares in f32 is good to four digits.
        "gradient_norm": gradient.double().norm().item(),
        "gradient_seconds": gradients,
        "product_seconds": products,
        "lambda_max": lambda_max,
        "residual": residual,
        "run_products": taken,
        "run_seconds": run,
        # vᵀHv of unit vectors of signs, times n: each estimates the trace.
        "traces": [form * first.numel() for form in forms],
        "notes": peer.notes(),
    }


def measure_memory(task, model, library):
    """The peak of resident memory of a gradient, and of a product, what it is made from included."""
    first = model.vector(task["vectors"][0])
    model.gradient()
    resident = memory.resident()
    gradient = memory.peak_of(model.gradient)

    def work():
        peer = library(model, task["products"])
        for _ in range(2):
            peer.product(first)

    return {"resident": resident, "gradient_peak": gradient, "product_peak": memory.peak_of(work)}


MEASURES = {"time": measure_time, "memory": measure_memory}


def seconds(work):
    """Of the processor, all threads together: what other programs take away from this one does not count."""
    started = time.process_time()
    work()
    return time.process_time() - started


def curvature(v, product):
    return torch.dot(v.double(), product.double()).item()


if __name__ == "__main__":
    main()
