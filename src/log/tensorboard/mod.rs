//! TensorBoard event files: what can be drawn.
//!
//! A session writes one file, `events.out.tfevents.<unix seconds>.hessian-probe.<pid>.<counter>`, a
//! sequence of framed `Event` messages that starts with `brain.Event:2`. Names ascend from session to
//! session, since TensorBoard reads the files of a directory by name. A [`Session`](super::Session) is
//! written as a `SessionLog START` at its first step, at which TensorBoard forgets that step and later
//! ones of sessions before: what an interrupted run had logged and the resumed one does again. It
//! forgets them for *every* tag of the directory, so the log needs a directory of its own (a
//! subdirectory of the training's own is shown as one more run). TensorBoard's fast loader, its default,
//! forgets tag by tag, as soon as a tag has a new value: there a step's orphans go when the resumed run
//! reaches its first probe.
//!
//! The step axis is the optimizer step, the wall time that of the probe. Missing values and values that
//! are not finite (in 32 bits, which is what TensorBoard keeps) are not written.
//!
//! # Tags
//! Every statistic X below has its value under `curvature/X`, what is known of its error under
//! `curvature_error/X` and the band that the charts of the *Custom Scalars* tab draw under
//! `curvature_band/X/lower` and `curvature_band/X/upper`. The error of an extreme Ritz value is its
//! residual; that of an estimate is its standard error. With one probe vector no standard error can be
//! told: `curvature_error/X` is then missing, and the band has no width.
//!
//! | X | meaning | unit |
//! |---|---|---|
//! | `lambda_max` | largest Ritz value | loss / parameter² |
//! | `lambda_min` | smallest Ritz value | loss / parameter² |
//! | `trace` | tr H | loss / parameter² |
//! | `mean_eigenvalue` | tr H / n | loss / parameter² |
//! | `frobenius_norm` | ‖H‖_F | loss / parameter² |
//! | `negative_share` | share of eigenvalues below zero, noise included | 1 |
//! | `negative_share_resolved` | share of eigenvalues below zero by more than their noise | 1 |
//! | `effective_rank` | tr(abs H)² / ‖H‖_F² | eigenvalues |
//! | `stable_rank` | ‖H‖_F² / λ², λ the largest in magnitude | eigenvalues |
//! | `spectral_entropy` | −Σ p ln p with p = abs λ / tr(abs H) | nats |
//! | `unresolved_mass` | share of eigenvalues that the noise hides | 1 |
//!
//! | tag | meaning | unit |
//! |---|---|---|
//! | `curvature/loss` | probe loss | loss |
//! | `curvature/gradient_norm` | norm of its gradient | loss / parameter |
//! | `curvature/parameter_norm` | norm of the parameters | parameter |
//! | `curvature/unresolved_floor` | largest noise of a Ritz value that the noise hides | loss / parameter² |
//! | `curvature_error/lambda_max/lanczos`, `…/hvp` | the two parts of the residual | loss / parameter² |
//! | `curvature_error/lambda_min/lanczos`, `…/hvp` | the two parts of the residual | loss / parameter² |
//! | `probe/hvp_relative_error_worst`, `…_median` | predicted relative error of Hessian-vector products | 1 |
//! | `probe/parity_ratio_worst`, `…_median` | even over odd part of the gradient's change | 1 |
//! | `probe/rounding_worst` | direction error from rounding the perturbed parameters | 1 |
//! | `probe/step_min`, `probe/step_max` | finite-difference steps h used | parameter |
//! | `probe/forward_products`, `probe/central_products` | products by each formula | products |
//! | `probe/fourth_order_products`, `probe/exact_products` | products by each of these | products |
//! | `probe/redone` | products computed again with a better step | products |
//! | `probe/redone_gradients` | gradients spent on what these took the place of | gradients |
//! | `probe/gradient_noise` | norm of the noise of one gradient | loss / parameter |
//! | `probe/asymmetry` | abs(uᵀHv − vᵀHu) / (‖Hu‖‖v‖) of two random vectors | 1 |
//! | `probe/orthogonality_defect` | max abs(QᵀQ − I) of the Lanczos vectors, the worst run | 1 |
//! | `probe/warnings` | warnings in the snapshot: above 0, read them before any number | warnings |
//! | `probe/gradient_repeats` | 1: two gradients at the same parameters had the same bits; 0: not | 1 |
//! | `probe/exhausted` | Lanczos runs that ended in an invariant space, whose T is exact | runs |
//! | `probe/tokens` | targets that the probe loss is a mean over | targets |
//! | `probe/seconds` | wall time of the probe | s |
//! | `probe/gradient_seconds`, `probe/communication_seconds` | of these, in gradients, in all_reduce | s |
//! | `probe_seconds/X` | wall time by part, which add up to `probe/seconds`: the fields of [`Parts`](crate::cost::Parts) | s |
//! | `probe/gradients`, `probe/calibration_gradients` | gradients computed; of these, to measure noise | gradients |
//! | `probe/all_reduces`, `probe/reduced_values` | all_reduces of the probe itself; values in them | calls; f64 |
//! | `probe/basis_bytes`, `probe/vector_bytes` | memory of the Lanczos basis; of other vectors, a rank | bytes |
//! | `probe/peak_memory_bytes` | peak of the processes' physical memory, summed over ranks | bytes |
//! | `track/lambda_max`, `track/lambda_max_residual` | largest Ritz value between probes; its residual | loss / parameter² |
//! | `track/preconditioned_lambda_max`, `…_residual` | the same of P^{-1/2} H P^{-1/2}, where `slq.operator` asks for it | 1/η |
//! | `track/margin` | it over the largest that the optimizer bears: above 1 is unstable | 1 |
//! | `track/overlap` | abs⟨y, y′⟩ of successive top vectors | 1 |
//! | `track/gradient_overlap` | abs⟨y, ∇L⟩ / ‖∇L‖ | 1 |
//! | `track/loss`, `track/seconds` | probe loss; wall time of tracking | loss; s |
//!
//! Where the host lends its optimizer: the Hessian's largest eigenvalue for SGD, that of P^{-1/2} H P^{-1/2}, P = diag(√v̂ + ε),
//! for Adam with `slq.operator`. With `operator = "preconditioned"` alone, everything above that is under `curvature…` and
//! speaks of the spectrum is under `preconditioned…`, and the histograms under `preconditioned_spectrum/`; with `"both"`
//! these are:
//!
//! | tag | meaning | unit |
//! |---|---|---|
//! | `preconditioned/lambda_max`, `preconditioned/lambda_min` | outermost Ritz values, with error and band | 1/η |
//! | `preconditioned/moved` | parameters with a second moment | parameters |
//! | `stability/margin` | largest eigenvalue over threshold: above 1 is unstable | 1 |
//! | `stability/threshold` | the largest eigenvalue that the optimizer bears | as the eigenvalue |
//! | `stability/learning_rate` | η of the coming step | parameter² / loss |
//!
//! With `[sharpness]`, u the update and c the multiple of it at which the loss rises above L(θ):
//!
//! | tag | meaning | unit |
//! |---|---|---|
//! | `sharpness/critical` | 2/(cη) | 1/η |
//! | `sharpness/multiple`, `sharpness/error` | c; what it may be off by | 1 |
//! | `sharpness/step_ratio` | 1/c: above 1, the step makes the loss larger | 1 |
//! | `sharpness/update_norm` | norm of u | parameter |
//! | `sharpness/loss` | probe loss, by a forward pass | loss |
//! | `sharpness/passes` | forward passes | passes |
//! | `sharpness/seconds`, `sharpness/share` | wall time; its share of the training time since the one before | s; 1 |
//!
//! With `[triggers]`, `probe/triggered` (text) tells why a probe started by itself.
//!
//! With `[directions]`, g the gradient of the probe loss and u the optimizer's update:
//!
//! | tag | meaning | unit |
//! |---|---|---|
//! | `directions/gradient/curvature`, `directions/gradient/error` | gᵀHg/‖g‖²; its error | loss / parameter² |
//! | `directions/update/curvature`, `directions/update/error` | uᵀHu/‖u‖²; its error | loss / parameter² |
//! | `directions/update/norm` | ‖u‖ | parameter |
//! | `directions/update/predicted_change` | gᵀu + uᵀHu/2 | loss |
//! | `directions/update/measured_change` | L(θ+u) − L(θ) | loss |
//!
//! With `[blocks]`, where BLOCK is the name of each block in turn; errors are under `blocks_error/…`, bands of the
//! first five under `blocks_band/…/lower` and `…/upper`:
//!
//! | tag | meaning | unit |
//! |---|---|---|
//! | `blocks/relative_error` | ‖H − H_bd‖_F / ‖H‖_F, H_bd the diagonal blocks of H | 1 |
//! | `blocks/cosine` | cosine of Hv and H_bd v over random v | 1 |
//! | `blocks/off_diagonal_share` | ‖H − H_bd‖_F² / ‖H‖_F² | 1 |
//! | `blocks/gradient/relative_error`, `blocks/gradient/cosine` | the same along the gradient | 1 |
//! | `blocks/predicted_error` | what errors of the products are predicted to change `relative_error` by | 1 |
//! | `blocks/draw_spread` | how far one draw of signs is from their mean, relative to that | 1 |
//! | `blocks/hvps` | Hessian-vector products that it took | products |
//! | `blocks/BLOCK/trace` | trace of the diagonal block | loss / parameter² |
//! | `blocks/BLOCK/frobenius_norm` | its Frobenius norm | loss / parameter² |
//! | `blocks/BLOCK/share` | its squared norm over ‖H‖_F² | 1 |
//! | `blocks/BLOCK/trace_share` | its trace over tr H | 1 |
//! | `blocks/BLOCK/lambda_max`, `blocks/BLOCK/lambda_min` | its outermost Ritz values | loss / parameter² |
//!
//! | tag | kind | content |
//! |---|---|---|
//! | `spectrum/density` | histogram | number of eigenvalues on a symmetric-logarithmic axis |
//! | `spectrum/log_density` | histogram | the same with heights log₁₀(1 + count / 0.01) |
//! | `blocks/BLOCK/log_density` | histogram | that of the spectrum of a diagonal block, on the same axis |
//! | `spectrum/density_plot` | image | eigenvalues for each decade at a step, with the band over probe vectors |
//! | `spectrum/heat_map` | image | the same over all steps so far, as colours; ever more rarely in a long run, and at its end |
//! | `probe/config` | text | parameters, ranks and configuration, once a session |
//! | `probe/skipped` | text | why a probe that was due did not come about |
//! | `custom_scalars__config__` | layout | the charts of the *Custom Scalars* tab, once a session |
//!
//! Images are drawn where `log.plots` is on, from [`DensityOverSteps`](crate::spectrum::DensityOverSteps); a resumed run's heat
//! map goes on with what `snapshots.jsonl` has of the sessions before.
//!
//! The histograms' x is sign(λ) · log₁₀(1 + |λ|/λ₀), with λ₀ constant over the run and told in the tag's
//! description: see [`SymlogAxis`]. The *Distributions* tab of `spectrum/density` shows quantiles of x;
//! of `spectrum/log_density`, whose heights are logarithms, it shows nothing that means anything.

mod block_scalars;
mod cheap_scalars;
mod event;
mod histogram;
mod images;
mod layout;
mod plot;
mod proto;
mod record;
mod scalars;
mod sink;
mod stability;
mod state;

pub use histogram::SymlogAxis;
pub use sink::TensorBoardSink;
