//! The messages of an event file, as TensorBoard's `event.proto`, `summary.proto`, `histogram.proto` and
//! `tensor.proto` number their fields.
//!
//! ```text
//! Event            1 wall_time: double   2 step: int64
//!                  one of: 3 file_version: string   5 summary: Summary   7 session_log: SessionLog
//! SessionLog       1 status: enum (1 = START)
//! Summary          1 value: repeated Value
//! Value            1 tag: string   9 metadata: SummaryMetadata
//!                  one of: 2 simple_value: float   4 image: Image   5 histo: HistogramProto   8 tensor: TensorProto
//! SummaryMetadata  1 plugin_data: PluginData   2 display_name: string   3 summary_description: string
//!                  4 data_class: enum (1 = scalar, 2 = tensor, 3 = blob sequence)
//! PluginData       1 plugin_name: string
//! Image            1 height  2 width  3 colorspace: int32 (3 = RGB)   4 encoded_image_string: bytes
//! HistogramProto   1 min  2 max  3 num  4 sum  5 sum_squares: double
//!                  6 bucket_limit  7 bucket: packed repeated double
//! TensorProto      1 dtype: enum (7 = DT_STRING)   2 tensor_shape: message (empty: a scalar)
//!                  8 string_val: repeated bytes
//! ```

use super::histogram::Histogram;
use super::plot::Png;
use super::proto::Message;

/// What every event file begins with; from version 2 on readers heed session logs.
pub(super) const FILE_VERSION: &str = "brain.Event:2";

const SESSION_START: u64 = 1;
const DT_STRING: u64 = 7;
const RGB: u64 = 3;

/// An event without its time and step.
#[derive(Debug)]
pub(super) enum Event {
    /// The first record of a file.
    FileVersion,
    /// Readers forget everything that earlier files have at this step or later.
    SessionStart,
    /// Values of this step.
    Summary(Vec<Value>),
}

/// One value of one tag.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) tag: String,
    /// What the tag means, in Markdown. Readers keep the first of a tag, so one is enough.
    pub(super) description: Option<String>,
    pub(super) data: Data,
}

/// What a value is.
#[derive(Debug)]
pub(super) enum Data {
    Scalar(f32),
    Histogram(Histogram),
    Image(Png),
    /// Markdown.
    Text(String),
    /// A serialised custom-scalars layout.
    Layout(Message),
}

impl Event {
    pub(super) fn encode(&self, wall_time: f64, step: u64) -> Vec<u8> {
        let event = Message::new().double(1, wall_time).varint(2, step.min(i64::MAX as u64));
        match self {
            Self::FileVersion => event.bytes(3, FILE_VERSION),
            Self::SessionStart => event.message(7, &Message::new().varint(1, SESSION_START)),
            Self::Summary(values) => {
                let summary = values.iter().fold(Message::new(), |m, v| m.message(1, &v.encode()));
                event.message(5, &summary)
            }
        }
        .into_bytes()
    }
}

impl Value {
    fn encode(&self) -> Message {
        let mut value = Message::new().bytes(1, &self.tag);
        if let Some(description) = &self.description {
            value = value.message(9, &self.data.metadata(description));
        }
        match &self.data {
            Data::Scalar(scalar) => value.float(2, *scalar),
            Data::Histogram(histogram) => value.message(5, &encode_histogram(histogram)),
            Data::Image(png) => value.message(4, &encode_image(png)),
            Data::Text(text) => value.message(8, &string_tensor(text.as_bytes())),
            Data::Layout(layout) => value.message(8, &string_tensor(&layout.clone().into_bytes())),
        }
    }
}

impl Data {
    fn metadata(&self, description: &str) -> Message {
        // TensorBoard's fast loader throws a description away unless the class is told.
        let (plugin, class) = match self {
            Self::Scalar(_) => ("scalars", 1),
            Self::Histogram(_) => ("histograms", 2),
            Self::Image(_) => ("images", 3),
            Self::Text(_) => ("text", 2),
            Self::Layout(_) => ("custom_scalars", 2),
        };
        Message::new().message(1, &Message::new().bytes(1, plugin)).bytes(3, description).varint(4, class)
    }
}

fn encode_histogram(histogram: &Histogram) -> Message {
    Message::new()
        .double(1, histogram.min)
        .double(2, histogram.max)
        .double(3, histogram.num)
        .double(4, histogram.sum)
        .double(5, histogram.sum_squares)
        .doubles(6, &histogram.limits)
        .doubles(7, &histogram.counts)
}

fn encode_image(png: &Png) -> Message {
    let size = Message::new().varint(1, png.height.into()).varint(2, png.width.into());
    size.varint(3, RGB).bytes(4, &png.bytes)
}

fn string_tensor(content: &[u8]) -> Message {
    Message::new().varint(1, DT_STRING).message(2, &Message::new()).bytes(8, content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x10, 0x07];
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn events_have_their_known_bytes() {
        assert_eq!(Event::FileVersion.encode(1.0, 7), event(b"\x1a\x0dbrain.Event:2"));
        assert_eq!(Event::SessionStart.encode(1.0, 7), event(&[0x3a, 2, 0x08, 1]));
    }

    #[test]
    fn a_scalar_of_zero_is_written_and_metadata_names_its_plugin() {
        let value = |description| Value { tag: "a/b".into(), description, data: Data::Scalar(0.0) };
        let plain = Event::Summary(vec![value(None)]).encode(1.0, 7);
        assert_eq!(plain, event(b"\x2a\x0c\x0a\x0a\x0a\x03a/b\x15\0\0\0\0"));
        let described = Event::Summary(vec![value(Some("d".into()))]).encode(1.0, 7);
        let expected =
            b"\x2a\x1e\x0a\x1c\x0a\x03a/b\x4a\x10\x0a\x09\x0a\x07scalars\x1a\x01d\x20\x01\x15\0\0\0\0";
        assert_eq!(described, event(expected));
    }

    #[test]
    fn an_image_has_its_size_and_its_bytes() {
        let png = Png { width: 3, height: 2, bytes: b"PNG".to_vec() };
        let value = Value { tag: "i".into(), description: None, data: Data::Image(png) };
        let expected = b"\x2a\x12\x0a\x10\x0a\x01i\x22\x0b\x08\x02\x10\x03\x18\x03\x22\x03PNG";
        assert_eq!(Event::Summary(vec![value]).encode(1.0, 7), event(expected));
    }

    #[test]
    fn text_is_a_string_tensor_without_dimensions() {
        let value = Value { tag: "t".into(), description: None, data: Data::Text("hi".into()) };
        let expected = b"\x2a\x0f\x0a\x0d\x0a\x01t\x42\x08\x08\x07\x12\x00\x42\x02hi";
        assert_eq!(Event::Summary(vec![value]).encode(1.0, 7), event(expected));
    }

    #[test]
    fn a_step_beyond_int64_stays_positive() {
        let bytes = Event::SessionStart.encode(1.0, u64::MAX);
        assert_eq!(bytes[9..19], [0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    }
}
