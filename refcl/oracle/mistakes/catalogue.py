"""The mistakes by name: what each does, the line of mathematics to change, and where it happened.

In:  an id.  Out: a `Mistake`.
Names and places were collected from public repositories; several can be made by nobody but a distributed loss.
"""

from typing import NamedTuple


class Mistake(NamedTuple):
    id: str
    effect: str  # what the code computes instead
    wrong: str  # the line as it is
    right: str  # the line as it should be
    where: tuple[str, ...]  # owner/repository#issue, or owner/repository


_ENTRIES = (
    Mistake(
        "self-in-denominator",
        "the anchor's similarity to itself stays among its candidates",
        "L_i = -log exp(s_ip/τ) / Σ_k exp(s_ik/τ)",
        "L_i = -log exp(s_ip/τ) / Σ_{k≠i} exp(s_ik/τ)",
        ("shashank2000/JeopardyContrastive",),
    ),
    Mistake(
        "self-masked-with-zero",
        "the anchor's own logit is set to 0 instead of -∞, so that it adds exp(0) = 1",
        "Σ_{k≠i} exp(s_ik/τ) + 1",
        "Σ_{k≠i} exp(s_ik/τ)",
        ("google-research/simclr#20",),
    ),
    Mistake(
        "self-term-wrong-constant",
        "the sum takes oneself in, and e is subtracted again instead of exp(1/τ)",
        "Σ_k exp(s_ik/τ) - e",
        "Σ_k exp(s_ik/τ) - exp(1/τ), or leave k = i out",
        ("Lightning-Universe/lightning-bolts#609",),
    ),
    Mistake(
        "finite-mask-leak",
        "masked logits are a finite constant instead of -∞: where every real logit is lower, the mask wins",
        "s_ii/τ ← c",
        "s_ii/τ ← -∞",
        ("taesungp/contrastive-unpaired-translation#47",),
    ),
    Mistake(
        "positive-missing-from-denominator",
        "the positive is left out of the sum: that is the decoupled loss, which can go negative",
        "L_i = -s_ip/τ + log Σ_{k≠p} exp(s_ik/τ)",
        "L_i = -s_ip/τ + log(exp(s_ip/τ) + Σ_{k≠p} exp(s_ik/τ))",
        ("danielward27/flowjax#164",),
    ),
    Mistake(
        "positive-counted-twice",
        "the positive stands twice in the sum",
        "log(2 exp(s_ip/τ) + Σ_k exp(s_ik/τ))",
        "log(exp(s_ip/τ) + Σ_k exp(s_ik/τ))",
        (),
    ),
    Mistake(
        "positive-among-negatives",
        "the positive is counted among the negatives of a loss that leaves it out: the decoupled loss becomes the "
        "softmax loss, the simple loss pushes what it pulls",
        "k over all candidates",
        "k over all candidates but p",
        ("WangFeng18/UnsupervisedLearningCodes",),
    ),
    Mistake(
        "cross-view-only",
        "only the other view's rows are candidates",
        "k over the N rows of the other view",
        "k over all 2N - 1 rows but oneself",
        ("catalyst-team/catalyst#1278",),
    ),
    Mistake(
        "one-direction",
        "only one view's rows are anchors",
        "L = 1/N Σ_{i of one view} L_i",
        "L = 1/(2N) Σ_{i of both views} L_i",
        ("lucidrains/DALLE-pytorch#32", "tensorflow/similarity#262"),
    ),
    Mistake(
        "temperature-missing",
        "similarities are not divided by the temperature",
        "logit_ik = s_ik",
        "logit_ik = s_ik/τ",
        ("ustcllm/RecStudio#21",),
    ),
    Mistake(
        "temperature-inverted",
        "similarities are multiplied by the temperature instead of divided",
        "logit_ik = s_ik τ",
        "logit_ik = s_ik/τ",
        ("bowang-lab/BLEEP#5",),
    ),
    Mistake(
        "temperature-missing-on-positive",
        "the positive is not divided by the temperature, the denominator is",
        "L_i = -s_ip + log Σ_k exp(s_ik/τ)",
        "L_i = -s_ip/τ + log Σ_k exp(s_ik/τ)",
        ("RElbers/info-nce-pytorch#17",),
    ),
    Mistake(
        "temperature-missing-on-negatives",
        "the positive is divided by the temperature, the negatives are not",
        "L_i = -s_ip/τ + log(… + Σ_k exp(s_ik))",
        "L_i = -s_ip/τ + log(… + Σ_k exp(s_ik/τ))",
        ("huiserwang/ContrastMask#4",),
    ),
    Mistake(
        "log-scale-not-exponentiated",
        "the logarithm of the scale is used as the scale",
        "logit_ik = θ s_ik",
        "logit_ik = exp(θ) s_ik, θ = log(1/τ)",
        ("BAAI-DCAI/M3D#52",),
    ),
    Mistake(
        "temperature-gradient-wrong",
        "value and the other gradients are right, the temperature's is not",
        "dL/dτ",
        "dL/dτ = -1/τ Σ s_ik dL/ds_ik;  dL/dθ = -τ dL/dτ for τ = exp(-θ)",
        ("NVIDIA-NeMo/Automodel#3850",),
    ),
    Mistake(
        "not-normalized",
        "raw inner products instead of cosines",
        "s_ik = <h_i, h_k>",
        "s_ik = <h_i, h_k> / (|h_i| |h_k|)",
        ("HobbitLong/SupContrast#50",),
    ),
    Mistake(
        "normalized-whole-tensor",
        "one norm for the whole batch instead of one for each row",
        "z = h / sqrt(Σ_ij h_ij²)",
        "z_i = h_i / sqrt(Σ_j h_ij²)",
        ("tensorflow/similarity#237",),
    ),
    Mistake(
        "normalized-wrong-axis",
        "columns are brought to length 1 instead of rows",
        "z_ij = h_ij / sqrt(Σ_i h_ij²)",
        "z_ij = h_ij / sqrt(Σ_j h_ij²)",
        ("HobbitLong/SupContrast#10",),
    ),
    Mistake(
        "normalization-jacobian-missing",
        "the backward does not go through the normalisation, or through a part of it only",
        "dh = dz",
        "dh = (dz - z <z, dz>) / |h|",
        (),
    ),
    Mistake(
        "log-of-mean",
        "the logarithm of the mean probability instead of the mean of the logarithms",
        "L = -log(1/N Σ_i p_i)",
        "L = -1/N Σ_i log p_i",
        ("pietz/simclr#1",),
    ),
    Mistake(
        "scaled-by-constant",
        "right but for a factor",
        "c L",
        "L",
        ("Spijkervet/SimCLR#18", "HobbitLong/SupContrast#106", "google-research/big_vision#115"),
    ),
    Mistake(
        "offset-by-constant",
        "the loss is off by a constant; its gradient is right",
        "L + c",
        "L",
        ("drboog/Lafite#25",),
    ),
    Mistake(
        "positives-interleaved",
        "the batch is [a; b], and positives are looked for as if it were [a_1, b_1, a_2, b_2, …]",
        "p(i) = i xor 1",
        "p(i) = i + N for a's rows, i - N for b's",
        ("open-mmlab/mmselfsup#159",),
    ),
    Mistake(
        "positives-permuted",
        "another column is taken for the positive",
        "p(i) = another row",
        "p(i) = the same row of the other input",
        ("OpenTabular/DeepTab#414",),
    ),
    Mistake(
        "broadcast-outer",
        "shapes (N, 1) and (N,) broadcast to (N, N): each positive meets every row's negatives",
        "mean_ij log(1 + Σ_k exp(s_jk/τ) / exp(s_ip/τ))",
        "mean_i log(1 + Σ_k exp(s_ik/τ) / exp(s_ip/τ))",
        ("Seonghoon-Yu/MoCov2#2",),
    ),
    Mistake(
        "double-softmax",
        "probabilities are given to a function that takes logits and applies the softmax again",
        "cross_entropy(softmax(s/τ), p)",
        "cross_entropy(s/τ, p)",
        ("somijeong/MGUIT#2",),
    ),
    Mistake(
        "keys-detached",
        "the value is right, the candidates get no gradient",
        "dz'_k = 0",
        "dz'_k = Σ_i ds_ik z_i",
        ("JohnGiorgi/DeCLUTR#212", "facebookresearch/SLIP#31"),
    ),
    Mistake(
        "denominator-detached",
        "the value is right, the denominator is a constant in the backward",
        "ds_ip = -1/τ, ds_ik = 0",
        "ds_ik = P_ik/τ, ds_ip = (P_ip - 1)/τ",
        (),
    ),
    Mistake(
        "gradient-zero",
        "the gradient is zero: a tolerance that is absolute passes it",
        "dL = 0",
        "dL ≠ 0",
        ("ScalingIntelligence/KernelBench#165",),
    ),
    Mistake(
        "label-smoothing-misplaced",
        "the smoothed part of the target is not spread evenly over the C candidates, the positive among them",
        "t = (1-ε) [k = p] + something else than ε/C",
        "t_k = (1-ε) [k = p] + ε/C for every candidate k",
        (),
    ),
    Mistake(
        "log-weight-misplaced",
        "the weight of a candidate is not what its logit has added",
        "x_k = s_ik/τ with w_k elsewhere",
        "x_k = s_ik/τ + w_ik, in the sum and in -x_p",
        (),
    ),
    Mistake(
        "targets-misread",
        "the distribution over the candidates is read as another one, or charged by another divergence",
        "something else than -Σ_k t_ik log p_ik",
        "L_i = -Σ_k t_ik log p_ik, row i for anchor i",
        (),
    ),
    Mistake(
        "anchor-weight-averaged",
        "the mean is over the sum of the weights, not over the number of anchors",
        "L = Σ_i a_i L_i / Σ_i a_i",
        "L = 1/N Σ_i a_i L_i",
        (),
    ),
    Mistake(
        "own-negatives-misread",
        "the negatives that come with an anchor are not those that it meets",
        "other rows than z_ih, or rows that are not of length 1",
        "s_ih = <z_i, z_ih>, h = 1 … H, for anchor i alone",
        (),
    ),
    Mistake(
        "margin-misplaced",
        "the positive is not lowered as it should be, before the temperature and wherever it stands",
        "x_p = something else than (cos(θ + α) - m)/τ",
        "x_p = (cos(θ_p + α) - m)/τ in the sum and in -x_p; beyond θ + α = π, cos θ - α sin α",
        (),
    ),
    Mistake("gradient-sign-flipped", "the gradient points up instead of down", "-dL", "dL", ()),
    Mistake(
        "overflow-at-small-temperature",
        "exponentials of raw logits, or of logits less the maximum of entries that do not count, are not finite at "
        "small temperatures, or all 0",
        "log Σ_k exp(s_ik/τ)",
        "m + log Σ_k exp(s_ik/τ - m), m = max_k s_ik/τ over the entries that are in the sum, no masked one",
        ("huggingface/sentence-transformers#2774",),
    ),
    Mistake(
        "epsilon-in-log",
        "a small constant inside the logarithm or its denominator: the loss is capped and the hardest pairs lose "
        "their gradient",
        "L_i = -log(p_i + ε)",
        "L_i = -log p_i = logsumexp_k(s_ik/τ) - s_ip/τ",
        ("KevinMusgrave/pytorch-metric-learning",),
    ),
    Mistake(
        "low-precision",
        "right on average, but computed in fewer digits than its inputs have",
        "float16, bfloat16 or TF32 somewhere inside",
        "accumulate in float32 or float64",
        ("triton-lang/triton#6227",),
    ),
    Mistake(
        "world-size-factor",
        "all gradients are multiplied or divided by the number of ranks",
        "W dL or dL/W",
        "dL",
        ("mlfoundations/open_clip#616", "lightly-ai/lightly#1528"),
    ),
    Mistake(
        "remote-gradients-dropped",
        "what other ranks' anchors send to this rank's candidates is lost: a gather without gradient",
        "dz_k = Σ_{i on this rank} …",
        "dz_k = Σ_{i on all ranks} …",
        ("facebookresearch/SLIP#31",),
    ),
    Mistake(
        "rank-offset-missing",
        "positives are not shifted by rank × local batch: every rank looks for them among rank 0's rows",
        "p(i) = i",
        "p(i) = i + rank · N/W",
        ("lightly-ai/lightly#1176",),
    ),
)

CATALOGUE = {mistake.id: mistake for mistake in _ENTRIES}
# Names that only a loss spread over ranks can earn.
DISTRIBUTED = ("world-size-factor", "remote-gradients-dropped", "rank-offset-missing")


def links(mistake: Mistake) -> list[str]:
    """Return the addresses where a mistake happened."""
    found = []
    for place in mistake.where:
        repository, _, issue = place.partition("#")
        found.append(f"https://github.com/{repository}" + (f"/issues/{issue}" if issue else ""))
    return found
