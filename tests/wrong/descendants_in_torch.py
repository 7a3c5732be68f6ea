"""The descendants in PyTorch: the mistakes that live in autograd, each value right to the last digit."""

import math

import torch
import torch.nn.functional as F


def views(a, b):
    z = torch.cat([F.normalize(a, dim=1), F.normalize(b, dim=1)])
    n = len(a)
    itself = torch.eye(2 * n, dtype=torch.bool)
    return z, itself, itself.roll(n, dims=1)


def decoupled(s, t, itself, positive):
    return (torch.logsumexp((s / t).masked_fill(itself | positive, -torch.inf), dim=1) - s[positive] / t).mean()


def dcl(a, b, t):
    z, itself, positive = views(a, b)
    return decoupled(z @ z.T, t, itself, positive)


def dcl_keys_detached(a, b, t):
    z, itself, positive = views(a, b)
    return decoupled(z @ z.detach().T, t, itself, positive)


def dcl_second_view_detached(a, b, t):
    return dcl(a, b.detach(), t)


def dcl_norm_detached(a, b, t):
    z = torch.cat([a / a.norm(dim=1, keepdim=True).detach(), b / b.norm(dim=1, keepdim=True).detach()])
    _, itself, positive = views(a, b)
    return decoupled(z @ z.T, t, itself, positive)


def dcl_denominator_detached(a, b, t):
    z, itself, positive = views(a, b)
    s = z @ z.T
    below = torch.logsumexp((s / t).masked_fill(itself | positive, -torch.inf), dim=1)
    return (below.detach() - s[positive] / t).mean()


def dcl_no_gradient(a, b, t):
    return dcl(a, b, t).detach()


def dcl_temperature_through_item(a, b, t):
    return dcl(a, b, t.item())


def dclw(a, b, t):
    z, itself, positive = views(a, b)
    s = z @ z.T
    near = s[positive]
    weight = 2 - len(near) * torch.softmax(near / 0.5, dim=0)
    return (torch.logsumexp((s / t).masked_fill(itself | positive, -torch.inf), dim=1) - weight * near / t).mean()


def dclw_second_view_detached(a, b, t):
    return dclw(a, b.detach(), t)


def reweighted(s, t, itself, positive, beta=1.0, tau_plus=0.1):
    n = len(s) - 2
    logits, near = (s / t).masked_fill(itself | positive, -torch.inf), s[positive] / t
    total = torch.logsumexp((1 + beta) * logits, 1) - torch.logsumexp(beta * logits, 1) + math.log(n)
    # everything over exp(s⁺/τ); where the positives that are expected eat up the sum, the floor takes over
    free = (torch.exp(total - near) - tau_plus * n) / (1 - tau_plus)
    return torch.log1p(torch.maximum(free, n * torch.exp(-(1 / t + near)))).mean()


def hcl(a, b, t):
    z, itself, positive = views(a, b)
    return reweighted(z @ z.T, t, itself, positive)


def hcl_keys_detached(a, b, t):
    z, itself, positive = views(a, b)
    return reweighted(z @ z.detach().T, t, itself, positive)


def hcl_first_view_detached(a, b, t):
    return hcl(a.detach(), b, t)


def model_aware(s, t, itself, positive):
    grown = t * (1 + 0.5 * s[positive].mean().detach())
    logits = (s / grown).masked_fill(itself, -torch.inf)
    gap = torch.logsumexp(logits.masked_fill(positive, -torch.inf), dim=1) - s[positive] / grown
    return (F.softplus(gap, threshold=1e9) * (1 + torch.exp(-gap)).detach()).mean()


def macl(a, b, t):
    z, itself, positive = views(a, b)
    return model_aware(z @ z.T, t, itself, positive)


def macl_keys_detached(a, b, t):
    z, itself, positive = views(a, b)
    return model_aware(z @ z.detach().T, t, itself, positive)


def macl_gradient_flipped(a, b, t):
    loss = macl(a, b, t)
    return 2 * loss.detach() - loss


def supervised(s, t, labels, below_of=lambda x: x):
    itself = torch.eye(len(s), dtype=torch.bool)
    positives = (labels[:, None] == labels[None, :]) & ~itself
    log_p = s / t - below_of(torch.logsumexp((s / t).masked_fill(itself, -torch.inf), dim=1, keepdim=True))
    return -((positives * log_p).sum(dim=1) / positives.sum(dim=1).clamp(min=1)).mean()


def sup_con(z, t, labels):
    z = F.normalize(z, dim=1)
    return supervised(z @ z.T, t, labels)


def sup_con_keys_detached(z, t, labels):
    z = F.normalize(z, dim=1)
    return supervised(z @ z.detach().T, t, labels)


def sup_con_denominator_detached(z, t, labels):
    z = F.normalize(z, dim=1)
    return supervised(z @ z.T, t, labels, lambda x: x.detach())


def sup_con_norm_detached(z, t, labels):
    z = z / z.norm(dim=1, keepdim=True).detach()
    return supervised(z @ z.T, t, labels)


def sup_con_temperature_through_item(z, t, labels):
    return sup_con(z, t.item(), labels)


def sig_lip(image, text, log_scale):
    logits = F.normalize(image, dim=1) @ F.normalize(text, dim=1).T * log_scale.exp() - 10.0
    return -F.logsigmoid((2 * torch.eye(len(image), dtype=logits.dtype) - 1) * logits).sum() / len(image)


def sig_lip_image_detached(image, text, log_scale):
    return sig_lip(image.detach(), text, log_scale)


def sig_lip_scale_detached(image, text, log_scale):
    return sig_lip(image, text, log_scale.detach())


def sig_lip_norm_detached(image, text, log_scale):
    image = image / image.norm(dim=1, keepdim=True).detach()
    text = text / text.norm(dim=1, keepdim=True).detach()
    logits = image @ text.T * log_scale.exp() - 10.0
    return -F.logsigmoid((2 * torch.eye(len(image), dtype=logits.dtype) - 1) * logits).sum() / len(image)


def align_uniform(a, b):
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    uniform = [torch.pdist(z).pow(2).mul(-2).exp().mean().log() for z in (a, b)]
    return (a - b).pow(2).sum(dim=1).mean() + sum(uniform) / 2


def align_uniform_second_view_detached(a, b):
    return align_uniform(a, b.detach())


HCL = {"tau_plus": 0.1, "beta": 1.0}
# loss, its settings, whether it overflows where its temperature is an argument, (verdict, function)
LOSSES = (
    ("dcl", {}, False, (
        ("correct", dcl),
        ("keys-detached", dcl_keys_detached),
        ("keys-detached", dcl_second_view_detached),
        ("normalization-jacobian-missing", dcl_norm_detached),
        ("denominator-detached", dcl_denominator_detached),
        ("gradient-zero", dcl_no_gradient),
        ("temperature-gradient-wrong", dcl_temperature_through_item),
    )),
    ("dclw", {}, False, (("correct", dclw), ("keys-detached", dclw_second_view_detached))),
    ("hcl", HCL, True, (
        ("correct", hcl),
        ("keys-detached", hcl_keys_detached),
        ("keys-detached", hcl_first_view_detached),
    )),
    ("macl", {}, True, (
        ("correct", macl),
        ("keys-detached", macl_keys_detached),
        ("gradient-sign-flipped", macl_gradient_flipped),
    )),
    ("sup_con", {}, False, (
        ("correct", sup_con),
        ("keys-detached", sup_con_keys_detached),
        ("denominator-detached", sup_con_denominator_detached),
        ("normalization-jacobian-missing", sup_con_norm_detached),
        ("temperature-gradient-wrong", sup_con_temperature_through_item),
    )),
    ("sig_lip", {}, False, (
        ("correct", sig_lip),
        ("keys-detached", sig_lip_image_detached),
        ("temperature-gradient-wrong", sig_lip_scale_detached),
        ("normalization-jacobian-missing", sig_lip_norm_detached),
    )),
    ("align_uniform", {}, False, (
        ("correct", align_uniform),
        ("keys-detached", align_uniform_second_view_detached),
    )),
)  # fmt: skip
