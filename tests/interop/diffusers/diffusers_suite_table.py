"""Why tests of diffusers' own suite fail on ``FewstepScheduler``: every one, by its reason.

Kinds: ``refused`` in words on purpose, ``internal`` (a private attribute), ``deviation`` (another
formula, pinned by the test named, all in test_diffusers_deviations.py), ``rounding``, ``test`` and
``theirs`` (the test's or their classes' own doing) and ``other message``.
"""

from __future__ import annotations

#: the release that the suite is taken from
RELEASE = "v0.40.0"
#: reason -> (kind, what is the matter)
REASONS: dict[str, tuple[str, str]] = {
    "foreign_time": (
        "refused",
        "step is given a time that is none of the run's; which state that would be is not said",
    ),
    "repeated_times": (
        "refused",
        "as many steps as the table has entries and more: theirs calls the network twice at "
        "one time",
    ),
    "beta_above_one": ("refused", "beta_end=2: alpha^2 would be negative"),
    "one_entry": ("refused", "a table of one noise level"),
    "zero_snr_eps": (
        "refused",
        "rescale_betas_zero_snr with an epsilon network, which says nothing at alpha = 0; "
        "theirs puts 2^-24 there",
    ),
    "flow_end": ("refused", "final_sigmas_type=sigma_min on a flow, which ends at 0"),
    "single_sde": (
        "refused",
        "sde-dpmsolver++ of the singlestep class: sampler=dpmpp_sde and others are named",
    ),
    "variance": ("internal", "calls _get_variance"),
    "pndm_parts": (
        "internal",
        "calls step_prk and step_plms, or reads prk_timesteps; step does both here",
    ),
    "no_table": (
        "refused",
        "trained_betas of IPNDM, which is no table here but the trigonometric path",
    ),
    "both_given": (
        "other message",
        "num_inference_steps and timesteps that agree are accepted; a ValueError where they differ",
    ),
    "their_classes": (
        "theirs",
        "from_config of their other classes fails on this class's values (SASolver, DEIS, as "
        "their own pairs do)",
    ),
    "end_of_table": (
        "deviation",
        "set_alpha_to_one=False at t = 0 (test_a_last_call_at_the_end_of_the_table_is_used)",
    ),
    "edm_end": (
        "deviation",
        "final_sigmas_type=sigma_min "
        "(test_special_levels_that_end_at_sigma_min_use_their_last_call)",
    ),
    "whole_times": (
        "deviation",
        "special levels (test_special_levels_differ_by_their_whole_time_alone)",
    ),
    "lms_middle": (
        "deviation",
        "LMS from the middle (test_lms_in_the_middle_weighs_the_derivatives_that_it_has)",
    ),
    "ipndm_start": ("deviation", "test_ipndm_begins_with_the_data_prediction"),
    "kdpm2_times": (
        "deviation",
        "KDPM2 (test_kdpm2_rounds_the_time_of_every_other_call); 3e-5 of the sum",
    ),
    "rounding": (
        "rounding",
        "less than 1e-5 of the sum: their levels and times are float32; DDPM next to the "
        "data 5e-5, none with their table in float64",
    ),
    "heun_state": (
        "test",
        "gives step the scaled input for the state; theirs goes on from a state that it "
        "kept, here an edit is kept",
    ),
    "single_middle": (
        "deviation",
        "test_singlestep_begun_inside_of_a_step_lays_out_the_calls_that_are_left",
    ),
    "no_such_word": (
        "refused",
        "variance_type='other', which no class has; beta_schedule='exp', which Heun alone has",
    ),
}
#: reason -> the tests, as file::name (file_1d: the one-dimensional class of that file)
FAILURES: dict[str, str] = {
    "beta_above_one": """
        ddim: betas
        ddpm: betas
        lcm: betas
        tcd: betas
    """,
    "foreign_time": """
        ddim: eta inference_steps steps_offset time_indices timestep_spacing
        deis: inference_steps
        dpm_single: inference_steps
        edm_euler: prediction_type timesteps
        unipc_1d: inference_steps
        unipc: inference_steps
    """,
    "end_of_table": """
        ddim: full_loop_with_no_set_alpha_to_one
    """,
    "variance": """
        ddim: variance
        ddpm: variance
    """,
    "no_such_word": """
        ddpm: variance_type
        heun: schedules
    """,
    "both_given": """
        ddpm: custom_timesteps_passing_both_num_inference_steps_and_timesteps
        lcm: custom_timesteps_passing_both_num_inference_steps_and_timesteps
        tcd: custom_timesteps_passing_both_num_inference_steps_and_timesteps
    """,
    "one_entry": """
        ddpm: timesteps
    """,
    "repeated_times": """
        deis: timesteps
        dpm_multi: duplicated_timesteps timesteps
        dpm_single: timesteps
        unipc_1d: timesteps
        unipc: timesteps
    """,
    "their_classes": """
        dpm_multi: compatibles
        dpm_single: compatibles
        edm_dpmsolver_multistep: compatibles
    """,
    "whole_times": """
        dpm_multi: full_loop_with_karras_and_v_prediction full_loop_with_lu_and_v_prediction
        dpm_single: full_loop_with_karras full_loop_with_karras_and_v_prediction
        unipc_1d: full_loop_with_karras full_loop_with_karras_and_v_prediction
        unipc: full_loop_with_karras full_loop_with_karras_and_v_prediction
    """,
    "zero_snr_eps": """
        dpm_multi: rescale_betas_zero_snr
        euler: rescale_betas_zero_snr
        euler_ancestral: rescale_betas_zero_snr
        unipc_1d: rescale_betas_zero_snr
        unipc: rescale_betas_zero_snr
    """,
    "single_middle": """
        dpm_single: full_loop_with_noise
    """,
    "single_sde": """
        dpm_single: solver_order_and_type
    """,
    "edm_end": """
        edm_dpmsolver_multistep: full_loop_no_noise full_loop_no_noise_thres full_loop_with_noise full_loop_with_v_prediction
    """,
    "rounding": """
        ddpm: full_loop_with_noise
        euler: custom_timesteps full_loop_with_noise
        heun: custom_timesteps
        kdpm2_discrete: full_loop_with_noise
        lms: full_loop_device_karras_sigmas
    """,
    "heun_state": """
        heun: full_loop_device full_loop_device_karras_sigmas full_loop_no_noise full_loop_with_noise
    """,
    "ipndm_start": """
        ipndm: full_loop_no_noise
    """,
    "no_table": """
        ipndm: trained_betas
    """,
    "kdpm2_times": """
        kdpm2_ancestral: full_loop_device full_loop_no_noise full_loop_with_noise
    """,
    "lms_middle": """
        lms: full_loop_with_noise
    """,
    "pndm_parts": """
        pndm: betas full_loop_no_noise full_loop_with_no_set_alpha_to_one full_loop_with_set_alpha_to_one full_loop_with_v_prediction
        inference_plms_no_past_residuals inference_steps pow_of_3_inference_steps prediction_type schedules step_shape steps_offset
        time_indices timesteps
    """,
    "flow_end": """
        unipc_1d: flow_and_karras_sigmas
    """,
}


def failures() -> dict[str, str]:
    """Test -> the reason that it fails for."""
    found = {}
    for reason, text in FAILURES.items():
        file = ""
        for word in text.split():
            if word.endswith(":"):
                file = word[:-1]
            else:
                found[f"{file}::{word}"] = reason
    return found
