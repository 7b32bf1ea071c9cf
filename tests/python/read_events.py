"""Reads a directory of event files with TensorBoard's own code and prints what it found as JSON.

Usage: read_events.py LOGDIR

Needs the `tensorboard` package, not TensorFlow. Three readers, from the bytes up:
- `files`: every event of every file, by the loader that TensorBoard uses (`EventFileLoader`, with its
  compatibility layers), and the number of raw records in the file;
- `histograms`: the unconverted histogram messages, by `EventAccumulator`;
- `run`: what TensorBoard shows of the run, by the accumulator behind its dashboards, orphaned steps
  purged, and the answers of the Custom Scalars plugin.
"""

import dataclasses
import io
import json
import logging
import os
import sys

from PIL import Image
from tensorboard.backend.event_processing import data_provider
from tensorboard.backend.event_processing import event_accumulator
from tensorboard.backend.event_processing import event_file_loader
from tensorboard.backend.event_processing import plugin_event_multiplexer
from tensorboard.compat.proto import event_pb2
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.custom_scalar import custom_scalars_plugin, layout_pb2
from tensorboard.plugins.scalar import scalars_plugin
from tensorboard.util import tensor_util

LAYOUT_TAG = "custom_scalars__config__"


def plain(value):
    """A value of a tensor as JSON: floats, lists of them, or text."""
    array = tensor_util.make_ndarray(value)
    if array.dtype.kind in "OS" and array.shape == (3,):
        return image(*array)
    return array.item() if array.dtype.kind in "OS" else array.tolist()


def image(width, height, encoded):
    """What an image says of itself, and what is in it."""
    decoded = Image.open(io.BytesIO(encoded)).convert("RGB")
    return {
        "said": [int(width), int(height)],
        "size": list(decoded.size),
        "colors": len(decoded.getcolors(1 << 24)),
    }


def shown(tag, tensor):
    value = plain(tensor)
    if tag == LAYOUT_TAG:
        return layout(value)
    return value.decode() if isinstance(value, bytes) else value


def layout(serialized):
    parsed = layout_pb2.Layout.FromString(serialized)
    categories = []
    for category in parsed.category:
        charts = []
        for chart in category.chart:
            kind = chart.WhichOneof("content")
            if kind == "margin":
                series = [[s.value, s.lower, s.upper] for s in chart.margin.series]
                charts.append({"title": chart.title, "margin": series})
            else:
                charts.append({"title": chart.title, "multiline": list(chart.multiline.tag)})
        categories.append({"title": category.title, "charts": charts})
    return categories


def read_file(path):
    # Raises on any damage, where the loader would stop without a word.
    reader = pywrap_tensorflow.PyRecordReader_New(path)
    raw = 0
    torn = False
    while True:
        try:
            reader.GetNext()
        except Exception as error:  # The stub's error classes carry no common base.
            torn = type(error).__name__ != "OutOfRangeError"
            break
        raw += 1

    events = []
    for event in event_file_loader.EventFileLoader(path).Load():
        kind = event.WhichOneof("what")
        entry = {"wall_time": event.wall_time, "step": event.step, "kind": kind}
        if kind == "file_version":
            entry["file_version"] = event.file_version
        elif kind == "session_log":
            entry["status"] = event_pb2.SessionLog.SessionStatus.Name(event.session_log.status)
        elif kind == "summary":
            entry["values"] = [
                {
                    "tag": value.tag,
                    "value": shown(value.tag, value.tensor),
                    "plugin": value.metadata.plugin_data.plugin_name,
                    "description": value.metadata.summary_description,
                    "data_class": value.metadata.data_class,
                }
                for value in event.summary.value
            ]
        events.append(entry)
    return {"name": os.path.basename(path), "records": raw, "torn": torn, "events": events}


def read_histograms(logdir):
    accumulator = event_accumulator.EventAccumulator(
        logdir, event_accumulator.STORE_EVERYTHING_SIZE_GUIDANCE
    ).Reload()
    return {
        tag: [
            {
                "step": event.step,
                "wall_time": event.wall_time,
                **dataclasses.asdict(event.histogram_value),
            }
            for event in accumulator.Histograms(tag)
        ]
        for tag in accumulator.Tags()[event_accumulator.HISTOGRAMS]
    }


def read_run(logdir):
    multiplexer = plugin_event_multiplexer.EventMultiplexer(
        tensor_size_guidance={"scalars": 0, "histograms": 0, "images": 0, "text": 0, "custom_scalars": 0},
    )
    multiplexer.AddRun(logdir, "run")
    multiplexer.Reload()
    tensors = {
        tag: [[event.step, shown(tag, event.tensor_proto)] for event in multiplexer.Tensors("run", tag)]
        for tag in multiplexer.GetAccumulator("run").Tags()["tensors"]
    }

    provider = data_provider.MultiplexerDataProvider(multiplexer, logdir)
    plugins = {}
    context = base_plugin.TBContext(
        logdir=logdir, data_provider=provider, plugin_name_to_instance=plugins
    )
    plugins["scalars"] = scalars_plugin.ScalarsPlugin(context)
    custom = custom_scalars_plugin.CustomScalarsPlugin(context)
    request = RequestContext()
    drawn = {}
    for category in json.loads(custom.layout_impl(request, ""))["category"]:
        for chart in category["chart"]:
            tags = chart.get("multiline", {}).get("tag", [])
            for series in chart.get("margin", {}).get("series", []):
                tags = tags + [series["value"], series["lower"], series["upper"]]
            for tag in tags:
                drawn[tag] = sorted(custom.scalars_impl(request, "run", tag, "")["tag_to_events"])
    return {"tensors": tensors, "drawn": drawn}


def main():
    logging.disable(logging.WARNING)
    logdir = sys.argv[1]
    names = sorted(name for name in os.listdir(logdir) if "tfevents" in name)
    result = {
        "files": [read_file(os.path.join(logdir, name)) for name in names],
        "histograms": read_histograms(logdir),
        "run": read_run(logdir),
    }
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
