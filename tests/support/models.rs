//! Small real losses, in plain tch operations that can be differentiated twice.

use tch::{Kind, Tensor};

pub type Loss = Box<dyn Fn(&[Tensor]) -> Tensor>;

/// A loss as a function of its parameters, and where to evaluate it.
pub struct Model {
    pub names: Vec<String>,
    pub parameters: Vec<Tensor>,
    pub loss: Loss,
}

/// Reproducible normal numbers, without torch's generator.
pub struct Normal {
    seed: u64,
    offset: u64,
}

impl Normal {
    pub fn new(seed: u64) -> Self {
        Self { seed, offset: 0 }
    }

    pub fn tensor(&mut self, shape: &[i64], std: f64) -> Tensor {
        let len = shape.iter().product::<i64>() as usize;
        let mut values = vec![0.0; len];
        let distribution = hessian_probe::config::Distribution::Gaussian;
        hessian_probe::sharded::random::RandomProbe::new(self.seed, 77, distribution)
            .fill(self.offset, &mut values);
        self.offset += len as u64;
        Tensor::from_slice(&values).view(shape) * std
    }

    pub fn labels(&mut self, len: i64, classes: i64) -> Tensor {
        let scores = self.tensor(&[len, classes], 1.0);
        scores.argmax(1, false)
    }
}

/// A perceptron with tanh and cross-entropy: 149 parameters.
pub fn mlp(seed: u64) -> Model {
    let mut normal = Normal::new(seed);
    let (inputs, hidden, classes, examples) = (6, 12, 5, 32);
    let x = normal.tensor(&[examples, inputs], 1.0);
    let labels = normal.labels(examples, classes);
    let shapes: [(&str, Vec<i64>); 4] = [
        ("hidden.weight", vec![hidden, inputs]),
        ("hidden.bias", vec![hidden]),
        ("output.weight", vec![classes, hidden]),
        ("output.bias", vec![classes]),
    ];
    let parameters = shapes.iter().map(|(_, shape)| normal.tensor(shape, 0.5)).collect();
    let loss = move |p: &[Tensor]| {
        let x = x.to_kind(p[0].kind());
        let hidden = (x.matmul(&p[0].tr()) + &p[1]).tanh();
        let logits = hidden.matmul(&p[2].tr()) + &p[3];
        cross_entropy(&logits, &labels)
    };
    Model { names: shapes.map(|(name, _)| name.to_owned()).to_vec(), parameters, loss: Box::new(loss) }
}

/// A decoder of two layers with plain causal attention, RMS norm and SwiGLU on random tokens: 690
/// parameters, untied.
pub fn transformer(seed: u64) -> Model {
    let mut normal = Normal::new(seed);
    let (vocabulary, d, ff, layers, length, batch) = (7, 6, 8, 2, 10, 4);
    let heads = 2;
    let tokens = normal.labels(batch * length, vocabulary).view([batch, length]);
    let labels = normal.labels(batch * length, vocabulary);
    let mut shapes: Vec<(String, Vec<i64>, f64)> = vec![("embed".into(), vec![vocabulary, d], 0.6)];
    for layer in 0..layers {
        let named = |name: &str| format!("layers.{layer}.{name}");
        shapes.push((named("norm1"), vec![d], 0.0));
        for name in ["q", "k", "v", "o"] {
            shapes.push((named(name), vec![d, d], 0.4));
        }
        shapes.push((named("norm2"), vec![d], 0.0));
        shapes.push((named("gate"), vec![ff, d], 0.4));
        shapes.push((named("up"), vec![ff, d], 0.4));
        shapes.push((named("down"), vec![d, ff], 0.4));
    }
    shapes.push(("norm".into(), vec![d], 0.0));
    shapes.push(("head".into(), vec![vocabulary, d], 0.5));
    let parameters = shapes
        .iter()
        .map(|(_, shape, std)| {
            if *std == 0.0 {
                Tensor::ones(shape, (Kind::Double, tch::Device::Cpu))
            } else {
                normal.tensor(shape, *std)
            }
        })
        .collect();
    let norm = |x: &Tensor, weight: &Tensor| {
        let mean = (x * x).mean_dim([-1_i64].as_slice(), true, None);
        x * (mean + 1e-5).rsqrt() * weight
    };
    let loss = move |p: &[Tensor]| {
        let kind = p[0].kind();
        let mut x = p[0].index_select(0, &tokens.view([-1])).view([batch, length, d]);
        let mask = Tensor::full([length, length], -1e9, (kind, tch::Device::Cpu)).triu(1);
        for layer in 0..layers as usize {
            let w = &p[1 + 9 * layer..10 + 9 * layer];
            let y = norm(&x, &w[0]);
            let split = |t: Tensor| t.view([batch, length, heads, d / heads]).transpose(1, 2);
            let (q, k, v) =
                (split(y.matmul(&w[1].tr())), split(y.matmul(&w[2].tr())), split(y.matmul(&w[3].tr())));
            let scores = q.matmul(&k.transpose(-1, -2)) / ((d / heads) as f64).sqrt() + &mask;
            let attended =
                scores.softmax(-1, kind).matmul(&v).transpose(1, 2).contiguous().view([batch, length, d]);
            x = &x + attended.matmul(&w[4].tr());
            let y = norm(&x, &w[5]);
            let gated = y.matmul(&w[6].tr()).silu() * y.matmul(&w[7].tr());
            x = &x + gated.matmul(&w[8].tr());
        }
        let last = p.len() - 1;
        let logits = norm(&x, &p[last - 1]).matmul(&p[last].tr()).view([-1, vocabulary]);
        cross_entropy(&logits, &labels)
    };
    Model { names: shapes.into_iter().map(|(name, ..)| name).collect(), parameters, loss: Box::new(loss) }
}

fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Tensor {
    let none: Option<&Tensor> = None;
    logits.cross_entropy_loss(labels, none, tch::Reduction::Mean, -100, 0.0)
}

/// ½θᵀAθ, whose Hessian is A.
pub fn quadratic(matrix: &Tensor, theta: &Tensor) -> Model {
    let matrix = matrix.shallow_clone();
    let loss = move |p: &[Tensor]| {
        let matrix = matrix.to_kind(p[0].kind());
        (p[0].unsqueeze(0).matmul(&matrix).matmul(&p[0].unsqueeze(1)) * 0.5).sum(None)
    };
    Model { names: vec!["theta".into()], parameters: vec![theta.copy()], loss: Box::new(loss) }
}
